"""Turns `stripelake fake-stripe` into a server for one test session, and its API into Python lists."""

import contextlib
import http.client
import json
import os
import select
import subprocess
import tempfile
import time
import urllib.parse

import harness

# Each set of parameters is one walk; all walks together show every object of the resource.
WALKS = {
    "charges": [{}],
    "refunds": [{}],
    "balance_transactions": [{}],
    "customers": [{}],
    "prices": [{"active": "true"}, {"active": "false"}],
    "subscriptions": [{"status": "all"}],
}


class Fake:
    """A running fake account: `url`, `key`, `account`. Use as a context manager."""

    def __init__(self, charges, seed=7, latency=None, now=None):
        self.args = ["fake-stripe", "--port", "0", "--charges", str(charges), "--seed", str(seed)]
        self.args += [*(["--latency", latency] if latency else []), *(["--now", str(now)] if now else [])]
        self.args += ["--json", "--until-stdin-closes"]
        self.held = {}

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [harness.binary(), *self.args],
            env=harness.environment(key=None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            start_new_session=True,
        )
        try:
            hello = json.loads(self.first_line())
            self.url, self.key, self.account = hello["url"], hello["key"], hello["account"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def first_line(self, timeout=30):
        """The line of JSON that says where the server listens; a server that never speaks is ended."""
        line, deadline = b"", time.monotonic() + timeout
        stdout = self.process.stdout.fileno()
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([stdout], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(stdout, 4096) if ready else b""
            if not piece:
                self.log.seek(0)
                raise AssertionError(
                    f"expected `stripelake {' '.join(self.args)}` to print one line of JSON, "
                    f"got {line!r}; stderr: {self.log.read().decode(errors='replace')[-3000:]}"
                )
            line += piece
        return line

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.process.stdout.close()
        self.log.close()

    def get(self, path, **query):
        """One GET as a merchant would send it; raises unless Stripe's answer is 200."""
        host = urllib.parse.urlsplit(self.url)
        target = path + "?" + urllib.parse.urlencode(query) if query else path
        # A connection that waits for the next test may have been closed by then.
        with contextlib.closing(http.client.HTTPConnection(host.hostname, host.port, timeout=30)) as connection:
            connection.request("GET", target, headers={"Authorization": f"Bearer {self.key}"})
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status == 200, f"fake {target}: expected 200, got {answer.status}: {body[:500]}"
        return json.loads(body)

    def walk(self, path, **query):
        """Every object of one list, page by page."""
        objects, cursor = [], {}
        while True:
            page = self.get(path, limit=100, **query, **cursor)
            objects += page["data"]
            if not page["has_more"]:
                return objects
            cursor = {"starting_after": page["data"][-1]["id"]}

    def all(self, table):
        """Every object that a table should hold, walked once and remembered."""
        if table not in self.held:
            if table == "subscription_items":
                rows = [item for sub in self.all("subscriptions") for item in self.items(sub)]
            else:
                rows = [o for query in WALKS[table] for o in self.walk(f"/v1/{table}", **query)]
            self.held[table] = rows
        return self.held[table]

    def items(self, subscription):
        embedded = subscription["items"]
        if not embedded["has_more"]:
            return embedded["data"]
        return self.walk("/v1/subscription_items", subscription=subscription["id"])
