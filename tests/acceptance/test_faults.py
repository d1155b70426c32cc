"""Turns a fake account that misbehaves over real sockets into complete lakes, or into the right exit.

Rows of the fault list are named in brackets. What depends on minutes of waiting, or on objects that change while
they are listed, stands in `tests/it` under a paused clock; ARCHITECTURE.md lists both.
"""

import re
import time

import pytest

import duck
import fake
import harness
from misbehaving import Misbehaving, sync

CHARGES = "/v1/charges"
# 2026-05-01T12:00:00Z
PRESENT = 1_777_636_800
# Each fault hits requests of a list on their way and passes; the lake must be whole.
PASSING = {
    "N1-rate": {"kind": "status", "status": 429, "reason": "endpoint-rate", "times": 6},
    "N1-retry-after": {"kind": "status", "status": 429, "reason": "global-rate", "retry_after": 1, "times": 1},
    "N3-lock-timeout": {"kind": "status", "status": 429, "code": "lock_timeout", "times": 3},
    "N3-conflict": {"kind": "status", "status": 409, "code": "lock_timeout", "times": 2},
    "N4-500": {"kind": "status", "status": 500, "times": 3},
    "N4-503": {"kind": "status", "status": 503, "times": 3, "should_retry": True},
    "N4-final": {"kind": "status", "status": 500, "times": 1, "should_retry": False},
    "N6-before-head": {"kind": "reset", "times": 3},
    "N6-in-body": {"kind": "reset-in-body", "times": 3},
    "N6-after-body": {"kind": "reset-after-body", "times": 3},
    "N7-short-body": {"kind": "short-body", "times": 3},
    "N7-no-last-chunk": {"kind": "no-last-chunk", "times": 3},
    # The third broken answer to one request would be the last.
    "N8-truncated": {"kind": "gzip-truncated", "times": 2},
    "N8-crc": {"kind": "gzip-crc", "times": 2},
    "N8-plain": {"kind": "gzip-plain", "times": 2},
    "N9-body": {"kind": "drip", "time": "2s", "times": 1},
    "N9-head": {"kind": "drip-head", "time": "100ms", "times": 1},
    "N10-hang": {"kind": "hang", "times": 1},
    "N11-html": {"kind": "html", "times": 1},
    "N11-html-502": {"kind": "html", "status": 502, "times": 2},
    "N16-bomb": {"kind": "bomb", "times": 2},
    "N16-endless": {"kind": "endless", "times": 2},
    "P1-garbage": {"kind": "garbage", "times": 1},
    "P1-nul": {"kind": "nul", "times": 1},
    "P1-trailing": {"kind": "trailing", "times": 1},
    "P1-empty": {"kind": "empty", "times": 1},
    "P2-no-has-more": {"kind": "no-has-more", "times": 1},
    "P2-text": {"kind": "has-more-text", "times": 1},
    "P2-null": {"kind": "has-more-null", "times": 1},
    "P2-no-data": {"kind": "no-data", "times": 1},
    "P2-data-object": {"kind": "data-object", "times": 1},
    "P2-no-list": {"kind": "no-list", "times": 1},
    "delay": {"kind": "delay", "time": "1s", "times": 2},
}
# Each fault lasts: (what it does, exit when nothing else is asked for, what the user is told).
LASTING = {
    "N4": ({"kind": "status", "status": 503, "should_retry": False}, 5, "status 503"),
    "N8": ({"kind": "gzip-crc"}, 5, "proxy"),
    "N11": ({"kind": "html"}, 5, "Welcome to our Wi-Fi"),
    "N13-404": ({"kind": "status", "status": 404, "message": "Unrecognized request URL"}, 3, "Unrecognized"),
    "N13-400": ({"kind": "status", "status": 400, "message": "Not set up for charges."}, 3, "Not set up"),
    "P1": ({"kind": "garbage"}, 3, "broken"),
    "P1-empty": ({"kind": "empty"}, 5, "expected JSON"),
    "P2": ({"kind": "has-more-text"}, 3, "expected a boolean"),
    "P2-missing": ({"kind": "no-has-more"}, 3, "has_more"),
    "P10": ({"kind": "other-mode"}, 4, "mode"),
    "G5": ({"kind": "has-more-always"}, 3, "expected"),
    "A1": ({"kind": "status", "status": 401, "code": "api_key_expired", "message": "Expired API Key"}, 4, "Expired"),
    "A2": (
        {"kind": "status", "status": 403, "message": "Having the 'rak_charge_read' permission would allow this."},
        4,
        "rak_charge_read",
    ),
}


def rows(lake, table="charges"):
    if not duck.files(lake, table):
        return 0
    with duck.connect() as con:
        return con.execute(f"select count(*) from read_parquet({duck.quoted(duck.glob(lake, table))})").fetchone()[0]


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_loses_nothing(home, name):
    """[N1 N3 N4 N6 N7 N8 N9 N10 N11 N16 P1 P2]"""
    fault = {"path": CHARGES, "from": 2} | PASSING[name]
    with Misbehaving(fault) as server:
        timeout = "2s" if name.startswith(("N9", "N10")) else "6s"
        outcome = sync(server, home / name, "charges", "refunds", timeout=timeout).expect(0)
        stats = server.stats()
    n_faults = sum(stats["by_fault"].values())
    # A reset behind a whole body may cost no repetition, and then there are fewer requests to meet it.
    assert 0 < n_faults <= fault["times"] if name == "N6-after-body" else n_faults == fault["times"], stats
    assert rows(home / name) == 250
    if name != "N6-after-body" and name != "delay":
        assert "repeated" in outcome.out, f"expected the summary to tell of repetitions\n{outcome}"


@pytest.mark.parametrize("name", LASTING)
def test_a_fault_that_lasts_ends_with_its_exit_code_and_says_why(home, name):
    """[N4 N8 N11 N13 P1 P2 P10 P11 G5 A1 A2]"""
    fault, code, says = LASTING[name]
    lake = home / f"lasting-{name}"
    with Misbehaving(fault | {"path": CHARGES}) as server:
        outcome = sync(server, lake, "charges", timeout="2s", patience=240).expect(code)
        stats = server.stats()
    outcome.expect_said(says, "your lake")
    assert stats["requests"] < 60, f"expected few requests, counted {stats}"
    assert "\x1b" not in outcome.said, "[P11] the server's escape sequence reached the terminal"
    # Pages that were read before a cursor repeated are kept for the next run.
    assert rows(lake) == 0 if name != "G5" else rows(lake) <= 250


def test_one_list_that_fails_leaves_the_others_complete(home):
    """[N4 N13]"""
    fault = {"kind": "status", "status": 404, "path": CHARGES}
    with Misbehaving(fault) as server:
        outcome = sync(server, home / "others").expect(3)
        expected = len(server.all("customers"))
    outcome.expect_said("charges", "complete for")
    assert rows(home / "others", "customers") == expected


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(home, status):
    """[N12] The target is another server, which must see no request."""
    with Misbehaving() as target:
        fault = {"kind": "redirect", "status": status, "to": target.url + "/v1/charges", "path": CHARGES}
        with Misbehaving(fault) as server:
            outcome = sync(server, home / f"redirect-{status}", "charges").expect(2)
        assert target.stats()["requests"] == 0
    outcome.expect_said(target.url)


def test_a_base_url_without_tls_is_refused_unless_it_is_this_machine(home):
    """[N14]"""
    said = harness.run("sync", "--lake", home / "n14", "--api-base", "http://api.example.com").expect(2)
    said.expect_said("https")
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    with Misbehaving() as server:
        sync(server, home / "n14", "prices", env=proxy).expect(0)


def test_the_limits_of_an_account_are_kept_and_refusals_slow_the_run_down(home):
    """[N1 A7] A server with the documented limits of a sandbox is never exceeded at the default rate."""
    flags = ["--rate-limit", "25/25"]
    with Misbehaving(charges=2_000, flags=flags) as server:
        outcome = sync(server, home / "polite", "charges", rate="80%").expect(0)
        stats = server.stats()
    assert stats["by_status"].get("429", 0) == 0, stats
    assert max(stats["per_second"]) <= 25, stats
    # Told to take 200/s, the client is refused, slows down, and still gets everything.
    with Misbehaving(charges=2_000, flags=["--rate-limit", "8/8"]) as server:
        outcome = sync(server, home / "rude", "charges", "--json", rate="200").expect(0)
        stats = server.stats()
    assert stats["by_status"]["429"] > 0, stats
    assert stats["by_status"]["429"] < stats["by_status"]["200"] * 2, f"expected few refusals: {stats}"
    assert re.search(r'"slowdowns":\s*[1-9]', outcome.out), outcome
    assert rows(home / "rude") == 2_000


def test_latency_is_hidden_by_slices(home):
    with Misbehaving(charges=2_000, latency="150ms") as server:
        outcome = sync(server, home / "latency", "charges").expect(0)
        stats = server.stats()
    assert stats["most_at_once"] > 3, stats
    assert rows(home / "latency") == 2_000, outcome


def test_every_wait_is_shown_when_asked_for_and_the_first_one_always(home):
    """[N1]"""
    fault = {"kind": "status", "status": 429, "reason": "global-rate", "path": CHARGES, "times": 3}
    for flags, least, most in [([], 1, 1), (["-v"], 3, 3)]:
        with Misbehaving(fault) as server:
            lake = home / f"waits-{len(flags)}"
            outcome = sync(server, lake, "charges", *flags, progress="plain").expect(0)
        n = outcome.err.count("Stripe asked to slow down (global-rate)")
        assert least <= n <= most, outcome


def test_a_silent_server_is_told_of_before_it_is_given_up(home):
    """[N10]"""
    with Misbehaving({"kind": "delay", "time": "12s", "path": CHARGES, "times": 1}) as server:
        outcome = sync(server, home / "silent", "charges", progress="plain", timeout="40s").expect(0)
    outcome.expect_said("no answer for 10 s")


def test_objects_that_appear_change_and_vanish_meanwhile_are_right_after_the_next_run(home):
    """[G1 G2 G3 G4 G9]"""
    faults = [
        {"kind": "appear", "count": 20, "path": CHARGES, "from": 2, "times": 2},
        {"kind": "late", "count": 5, "path": CHARGES, "from": 1, "times": 3},
        {"kind": "edit", "count": 10, "path": "/v1/customers", "times": 2},
        {"kind": "vanish-cursor", "count": 1, "path": "/v1/customers", "query": {"starting_after": "*"}, "times": 2},
        {"kind": "vanish-cursor", "count": 100, "path": "/v1/customers", "query": {"starting_after": "*"}, "times": 1},
    ]
    lake = home / "changing"
    with Misbehaving(*faults, charges=2_400) as server:
        sync(server, lake, "charges", "customers").expect(0)
        sync(server, lake, "charges", "customers").expect(0)
        charges, customers = server.walk(CHARGES), server.walk("/v1/customers")
    assert len(charges) == 2_400
    source = "read_parquet({})"
    with duck.connect() as con:
        for table, objects in [("charges", charges), ("customers", customers)]:
            rows = con.execute(
                f"select id from {source.format(duck.quoted(duck.glob(lake, table)))} where not _deleted"
            ).fetchall()
            assert sorted(id for (id,) in rows) == sorted(o["id"] for o in objects), table
        found = con.execute(
            f"select count(*) from {source.format(duck.quoted(duck.glob(lake, 'customers')))} "
            "where not _deleted and metadata['revision'] is not null"
        ).fetchone()[0]
    assert found == sum("revision" in o["metadata"] for o in customers) > 0


def test_a_bad_file_of_faults_is_refused_by_its_line(tmp_path):
    for text, says in [
        ('[[fault]]\nkind = "tired"\n', "line 1: kind: expected status"),
        ('seed = 1\n\n[[fault]]\nkind = "hang"\nstatus = 500\n', "line 3: unexpected key status"),
        ("latency = 3\n", "line 1"),
        ("colour = 3\n", "colour"),
    ]:
        path = tmp_path / "faults.toml"
        path.write_text(text)
        outcome = harness.run("fake-stripe", "--faults", path, key=None).expect(2)
        outcome.expect_said("--faults", says, "stripelake fake-stripe --help")


def test_a_fake_account_is_the_same_again_where_its_present_is_given():
    objects = []
    for _ in range(2):
        with fake.Fake(charges=40, now=PRESENT) as server:
            objects.append({table: server.all(table) for table in harness.TABLES})
        time.sleep(1.1)
    assert objects[0] == objects[1]
    newest = max(charge["created"] for charge in objects[0]["charges"])
    assert 0 < PRESENT - newest < 60 * 86_400, newest
    for present in ["1999-01-01", "2400-01-01", "soon"]:
        harness.run("fake-stripe", "--now", present, key=None).expect(2).expect_said("--now", present)


def test_the_help_of_the_fake_account_tells_every_kind():
    said = harness.run("fake-stripe", "--help", key=None).expect(0).out
    for fault in [*PASSING.values(), *(fault for fault, _, _ in LASTING.values())]:
        assert re.search(rf"\b{fault['kind']}\b", said), fault["kind"]
