"""Turns an S3 server into one that is out for a while, or that gets other bytes than were sent."""

import http.client
import http.server
import threading
import time


class S3Proxy:
    """A way to `seaweed` on loopback: `env` for programs. A context manager."""

    def __init__(self, seaweed):
        self.seaweed = seaweed
        self.alter, self.most_altered = None, 1
        # Refused once enough was altered.
        self.deny = None
        self.n_altered = 0
        self.out_from = None
        self.out_methods = ("GET", "HEAD", "PUT", "POST", "DELETE")
        self.out_secs = 0.0
        self.out_until = None

    def __enter__(self):
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def handle_any(self):
                proxy.forward(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def env(self):
        return self.seaweed.env | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.server_port}"}

    def forward(self, asked):
        body = asked.rfile.read(int(asked.headers.get("content-length", 0)))
        place = f"{asked.command} {asked.path}"
        if self.out_from and self.out_from in place:
            self.out_from, self.out_until = None, time.monotonic() + self.out_secs
        is_out = self.out_until and time.monotonic() < self.out_until
        if is_out and asked.command in self.out_methods:
            asked.close_connection = True
            return
        if self.deny and self.deny in place and self.n_altered >= self.most_altered:
            asked.send_error(403)
            return
        if self.alter and self.alter in place and self.n_altered < self.most_altered:
            self.n_altered += 1
            body = body[:-1] + bytes([body[-1] ^ 1])
        ahead = http.client.HTTPConnection(self.seaweed.host, timeout=60)
        ahead.putrequest(asked.command, asked.path, skip_host=True, skip_accept_encoding=True)
        for name, value in asked.headers.items():
            ahead.putheader(name, value)
        ahead.endheaders(body)
        answer = ahead.getresponse()
        content = answer.read()
        asked.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                if name.lower() != "content-length" or asked.command == "HEAD":
                    asked.send_header(name, value)
        if asked.command != "HEAD":
            asked.send_header("Content-Length", str(len(content)))
        asked.end_headers()
        asked.wfile.write(content)
        ahead.close()
