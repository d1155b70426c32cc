"""Turns the SeaweedFS program into an S3 server on loopback with one bucket, and lists what it holds."""

import datetime
import hashlib
import hmac
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as xml

ACCESS, SECRET, BUCKET, REGION = "lake", "lakesecret", "lake", "us-east-1"
PORTS = [f"{name}.port{kind}" for name in ("master", "filer", "volume", "s3") for kind in ("", ".grpc")]


class Seaweed:
    """A running server: `endpoint` (http://127.0.0.1:PORT) and `env` for programs. A context manager."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="seaweed-")
        home = pathlib.Path(self.folder.name)
        ports = dict(zip(PORTS + ["admin.port"], free_ports(len(PORTS) + 1)))
        self.host = f"127.0.0.1:{ports['s3.port']}"
        self.endpoint = f"http://{self.host}"
        self.log = open(home / "log", "w+")
        self.process = subprocess.Popen(
            command(home, ports),
            env={"PATH": "/usr/bin:/bin", "HOME": str(home)}
            | {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self, timeout=60):
        """Returns when a signed listing of the bucket is answered."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.list("")
            except (OSError, urllib.error.URLError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.log.seek(0)
                    log = self.log.read()[-3000:]
                    raise AssertionError(f"SeaweedFS did not answer S3: {error}\n{log}") from None
            time.sleep(0.1)

    def __exit__(self, *_):
        """Ends the server; after three seconds without mercy, since nobody needs its data."""
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.log.close()
        self.folder.cleanup()

    @property
    def env(self):
        """What a program needs to write here."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": REGION,
        }

    def list(self, prefix):
        """Key -> (etag, size) of every object below a prefix."""
        found, token = {}, None
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
            page = xml.fromstring(self.get(f"/{BUCKET}", query))
            space = {"s3": page.tag[1:].split("}")[0]}
            for entry in page.findall("s3:Contents", space):
                etag, size = entry.findtext("s3:ETag", "", space), entry.findtext("s3:Size", "", space)
                found[entry.findtext("s3:Key", "", space)] = (etag.strip('"'), int(size))
            token = page.findtext("s3:NextContinuationToken", None, space)
            if not token:
                return found

    def get(self, path, query=None):
        """The body of one signed GET."""
        headers, text = signed(self.host, path, query or {})
        request = urllib.request.Request(f"{self.endpoint}{path}?{text}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def put(self, path, body):
        """Writes an object with one signed PUT."""
        headers, _ = signed(self.host, path, {}, "PUT", body)
        request = urllib.request.Request(self.endpoint + path, body, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()


def command(home, ports):
    """Only what S3 needs, only on loopback, and nothing that calls home."""
    weed = pathlib.Path(sys.executable).parent / "weed"
    fixed = [
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-bucket={BUCKET}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",
        f"-dir={home}",
        f"-filer.localSocket={home / 'filer.sock'}",
        f"-s3.localSocket={home / 's3.sock'}",
    ]
    return [str(weed), "mini", *fixed, *(f"-{name}={port}" for name, port in ports.items())]


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def signed(host, path, query, method="GET", body=b""):
    """Headers and query text of a request, signed with AWS signature version 4."""
    quote = lambda text: urllib.parse.quote(text, safe="-_.~")
    text = "&".join(f"{quote(k)}={quote(v)}" for k, v in sorted(query.items()))
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    lines = [method, path, text, f"host:{host}", f"x-amz-content-sha256:{digest}", f"x-amz-date:{now}", "", names]
    canonical = hashlib.sha256("\n".join(lines + [digest]).encode()).hexdigest()
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    secret = f"AWS4{SECRET}".encode()
    for step in [*scope.split("/"), "\n".join(["AWS4-HMAC-SHA256", now, scope, canonical])]:
        secret = hmac.new(secret, step.encode(), hashlib.sha256).digest()
    credential = f"Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={secret.hex()}"
    headers = {"x-amz-content-sha256": digest, "x-amz-date": now}
    return headers | {"Authorization": f"AWS4-HMAC-SHA256 {credential}"}, text
