"""Turns a stub into an HTTPS server of HTTP/1.1 or HTTP/2, with a certificate made for the test.

Over HTTP/2 it can refuse streams and say goodbye in the middle of a conversation.
"""

import datetime
import gzip
import http.server
import socket
import ssl
import threading
import urllib.parse

import h2.config
import h2.connection
import h2.errors
import h2.events
import trustme

import stub as stubs

HOST = "127.0.0.1"


class Authority:
    """A certificate authority that nobody knows."""

    def __init__(self):
        self.ca = trustme.CA()

    def write(self, path):
        path.write_bytes(self.ca.cert_pem.bytes())
        return path

    def context(self, protocols, expired=False):
        """What a server needs to be this machine, or to have been it until yesterday."""
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        ends = {"not_before": now - 3 * day, "not_after": now - day} if expired else {}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(HOST, **ends).configure_cert(context)
        context.set_alpn_protocols(protocols)
        return context


class Https:
    """The stub behind TLS: `url`. Use as a context manager."""

    def __init__(self, stub, context):
        self.server = http.server.ThreadingHTTPServer((HOST, 0), stubs.Handler)
        self.server.daemon_threads = True
        self.server.stub = stub
        self.server.handle_error = lambda *_: None
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://{HOST}:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


class Http2:
    """The stub over HTTP/2. `faults`: request number -> "goaway", "reset", "refuse" or "silence"; each once."""

    def __init__(self, stub, context, faults):
        self.stub, self.context, self.faults = stub, context, dict(faults)
        self.n_requests, self.n_connections = 0, 0
        self.lock = threading.Lock()

    def __enter__(self):
        self.listener = socket.create_server((HOST, 0), backlog=32)
        self.listener.settimeout(0.1)
        self.url = f"https://{HOST}:{self.listener.getsockname()[1]}"
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(5)
        self.listener.close()

    def accept(self):
        while not self.stopped.is_set():
            try:
                raw, _ = self.listener.accept()
            except TimeoutError:
                continue
            self.n_connections += 1
            threading.Thread(target=self.converse, args=(raw,), daemon=True).start()

    def converse(self, raw):
        raw.settimeout(30)
        try:
            with self.context.wrap_socket(raw, server_side=True) as tls:
                Conversation(self, tls).run()
        except (OSError, h2.exceptions.ProtocolError):
            """A client that hangs up is not an error of the server."""


class Conversation:
    """One connection: bodies go out as far as the client's windows allow."""

    def __init__(self, server, tls):
        self.server, self.tls, self.waiting, self.is_silent = server, tls, {}, False
        self.h2 = h2.connection.H2Connection(config=h2.config.H2Configuration(client_side=False))

    def run(self):
        self.h2.initiate_connection()
        self.tls.sendall(self.h2.data_to_send())
        while not self.server.stopped.is_set():
            data = self.tls.recv(65_536)
            if not data:
                return
            if self.is_silent:
                continue
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.RequestReceived) and not self.answer(event):
                    self.tls.sendall(self.h2.data_to_send())
                    return
            if not self.is_silent:
                self.flush()
                self.tls.sendall(self.h2.data_to_send())

    def answer(self, event):
        """False when the connection is to end."""
        with self.server.lock:
            self.server.n_requests += 1
            fault = self.server.faults.pop(self.server.n_requests, None)
        if fault == "goaway":
            self.h2.close_connection(last_stream_id=event.stream_id - 2 if event.stream_id > 1 else 0)
            return False
        if fault == "silence":
            self.is_silent = True
            return True
        if fault in ("reset", "refuse"):
            codes = h2.errors.ErrorCodes
            code = codes.INTERNAL_ERROR if fault == "reset" else codes.REFUSED_STREAM
            self.h2.reset_stream(event.stream_id, error_code=code)
            return True
        headers = {name.decode(): value.decode() for name, value in event.headers}
        target = urllib.parse.urlsplit(headers[":path"])
        query = urllib.parse.parse_qsl(target.query, keep_blank_values=True)
        status, more, body = self.server.stub.answer(target.path, query, headers)
        head = [(":status", str(status)), ("content-encoding", "gzip")]
        head += [(name.lower(), value) for name, value in more.items()]
        self.h2.send_headers(event.stream_id, head)
        self.waiting[event.stream_id] = gzip.compress(body, 1)
        return True

    def flush(self):
        for stream, body in list(self.waiting.items()):
            while body:
                n = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
                if n <= 0:
                    break
                self.h2.send_data(stream, body[:n], end_stream=n == len(body))
                body = body[n:]
            self.waiting[stream] = body
            if not body:
                del self.waiting[stream]
