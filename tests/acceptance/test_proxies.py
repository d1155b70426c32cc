"""Turns proxies that cannot be used, refuse, or change what passes into errors that name them. [N14]"""

import http.server
import threading

import pytest

import harness
import stub as stubs
import tls
from test_sync_stub import small


@pytest.fixture(scope="module")
def authority():
    return tls.Authority()


def sync(url, lake, *args, **options):
    base = ["sync", "prices", "--lake", lake, "--api-base", url, "--rate", "unlimited", "--progress", "none"]
    return harness.run(*base, *args, **options)


class Proxy:
    """A proxy that answers each CONNECT with this status. `n_asked` counts them."""

    def __init__(self, status):
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_CONNECT(self):
                proxy.n_asked += 1
                self.send_error(status)

            def log_message(self, *_):
                """Nobody reads it."""

        self.n_asked, self.server = 0, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", ["ftp://127.0.0.1:1", "::::x", "http://[bad", "socks5://joe:s3cret@127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_not_passed_over(tmp_path, authority, name, value):
    stub = stubs.Stub(small())
    with tls.Https(stub, authority.context(["http/1.1"])) as server:
        ca = authority.write(tmp_path / "ca.pem")
        outcome = sync(server.url, tmp_path / "lake", "--ca-file", ca, env={name: value}).expect(2)
    outcome.expect_said(f"error: {name}: expected a proxy", "unset it")
    assert "s3cret" not in outcome.said and stub.log == [], outcome


def test_a_proxy_is_for_servers_that_are_not_excepted(tmp_path, authority):
    stub = stubs.Stub(small())
    ca = authority.write(tmp_path / "ca.pem")
    with tls.Https(stub, authority.context(["http/1.1"])) as server, Proxy(403) as proxy:
        env = {"HTTPS_PROXY": proxy.place, "NO_PROXY": "127.0.0.1"}
        sync(server.url, tmp_path / "lake", "--ca-file", ca, env=env).expect(0)
    assert proxy.n_asked == 0


@pytest.mark.parametrize("status, code", [(403, 5), (407, 2)])
def test_a_proxy_that_refuses_is_named_with_its_variable(tmp_path, status, code):
    with Proxy(status) as proxy:
        env = {"ALL_PROXY": f"http://joe:s3cret@{proxy.place}"}
        outcome = sync("https://127.0.0.1:1", tmp_path / "lake", env=env, timeout=200).expect(code)
    # Another password does not come by itself.
    assert (proxy.n_asked > 1) == (status == 403) and "s3cret" not in outcome.said, outcome
    outcome.expect_said("tunnel error", f"http://{proxy.place} (of ALL_PROXY)")


@pytest.mark.parametrize("text", ["", "nothing\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_holds_no_certificates_is_named(tmp_path, text):
    file = tmp_path / "mine.pem"
    file.write_text(text)
    outcome = sync("https://127.0.0.1:9", tmp_path / "lake", "--ca-file", file).expect(2)
    outcome.expect_said(f"--ca-file {file}: expected certificates in PEM", "BEGIN CERTIFICATE")


class Answers(stubs.Stub):
    """A server, or what stands before it, that answers charges so; without gzip."""

    def __init__(self, status, headers):
        super().__init__(small(), gzipped=False)
        self.said = status, headers

    def answer(self, path, query, headers):
        status, more, body = super().answer(path, query, headers)
        if path == "/v1/charges":
            status, more = self.said[0], more | self.said[1]
        return status, more, body


@pytest.mark.parametrize(
    "status, headers, code, words",
    [
        (200, {"Content-Encoding": "br"}, 5, ["expected a body in gzip, got one in br", "proxy"]),
        (407, {}, 2, ["proxy", "HTTPS_PROXY", "NO_PROXY"]),
        (451, {}, 3, ["status 451", "another network"]),
        (304, {}, 5, ["expected status 200, got 304", "proxy"]),
    ],
)
def test_what_a_proxy_makes_of_an_answer_is_told_as_that(tmp_path, status, headers, code, words):
    with Answers(status, headers) as stub:
        outcome = harness.sync(stub, tmp_path / "lake", "charges").expect(code).expect_said(*words)
    assert "--exclude" not in outcome.err and "nowhere" not in outcome.err, outcome
