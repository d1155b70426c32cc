"""Turns certificates that are not trusted, servers that are not there and HTTP/2 that says goodbye into the right exit.

Rows of the fault list are named in brackets.
"""

import concurrent.futures
import socket

import pytest

import harness
import objects
import stub as stubs
import tls
from test_sync_stub import expect_whole, small


@pytest.fixture(scope="module")
def authority():
    return tls.Authority()


def sync(url, lake, *args, **options):
    base = ["sync", "--lake", lake, "--api-base", url, "--rate", "500", "--progress", "plain"]
    return harness.run(*base, *args, **options)


@pytest.mark.parametrize("expired", [False, True])
def test_a_certificate_that_is_not_trusted_ends_the_run_at_once(home, authority, expired):
    """[N5]"""
    stub = stubs.Stub(small())
    with tls.Https(stub, authority.context(["http/1.1"], expired)) as server:
        more = ["--ca-file", authority.write(home / "ca.pem")] if expired else []
        outcome = sync(server.url, home / f"untrusted-{expired}", *more).expect(2)
    outcome.expect_said("certificate", "proxy")
    assert stub.log == [], "the key must not reach a server that is not trusted"
    assert outcome.seconds < 10, outcome


def test_an_authority_that_is_named_is_trusted(home, authority):
    """[N5]"""
    held = small()
    stub = stubs.Stub(held)
    with tls.Https(stub, authority.context(["http/1.1"])) as server:
        sync(server.url, home / "trusted", "--ca-file", authority.write(home / "ca.pem")).expect(0)
    expect_whole(home / "trusted", harness.TABLES, held)


def test_a_file_without_certificates_is_refused(home, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    sync("https://127.0.0.1:9", home / "no-ca", "--ca-file", empty).expect(2).expect_said("--ca-file")


def test_a_server_that_is_not_there_is_asked_eight_times_and_then_is_the_networks_fault(home):
    """[N5] No name, and nobody behind the port; both at once, since each takes its time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    urls = ["https://stripelake.invalid", f"http://127.0.0.1:{port}"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        lakes = [home / "no-name", home / "refused"]
        outcomes = list(pool.map(lambda url, lake: sync(url, lake, timeout=300), urls, lakes))
    for outcome in outcomes:
        outcome.expect(5).expect_said("tried 8 times", "--api-base")
        retries = outcome.err.count("retry /v1/account")
        assert 1 <= retries <= 7, f"expected the first retry to be told, and long ones\n{outcome}"


@pytest.mark.parametrize("fault", ["goaway", "reset", "refuse"])
def test_http_2_that_says_goodbye_loses_nothing(home, authority, fault):
    """[N15]"""
    held = small()
    stub = stubs.Stub(held)
    context = authority.context(["h2"])
    lake = home / f"h2-{fault}"
    with tls.Http2(stub, context, {2: fault, 4: fault, 7: fault}) as server:
        sync(server.url, lake, "--ca-file", authority.write(home / "ca.pem")).expect(0)
        assert server.faults == {}, f"expected all faults to be met after {server.n_requests} requests"
        assert server.n_connections > 1 or fault != "goaway"
    expect_whole(lake, harness.TABLES, held)


def test_an_http_2_connection_that_has_died_in_silence_is_replaced(home, authority):
    """[N10 N15] It would serve every repeat, too."""
    held = small()
    stub = stubs.Stub(held)
    lake = home / "h2-silence"
    with tls.Http2(stub, authority.context(["h2"]), {3: "silence"}) as server:
        sync(server.url, lake, "--ca-file", authority.write(home / "ca.pem"), "--timeout", "8s").expect(0)
        assert server.n_connections == 2, server.n_connections
    expect_whole(lake, harness.TABLES, held)


def test_connections_that_die_while_nothing_is_asked_are_made_anew(home):
    """[N15] Every answer is followed by a reset of its connection."""
    held = small()
    with stubs.Stub(held) as stub:
        stub.server.RequestHandlerClass = type("OneShot", (stubs.Handler,), {"do_GET": one_shot})
        harness.sync(stub, home / "stale").expect(0)
    expect_whole(home / "stale", harness.TABLES, held)


def one_shot(handler):
    """Answers as if the connection would stay, and closes it."""
    stubs.Handler.do_GET(handler)
    handler.close_connection = True
