"""Turns objects behind an independent server, with and without faults, into a lake, leaf by leaf.

Rows of the fault list are named in brackets.
"""

import json

import pytest

import duck
import harness
import leaves
import objects
import stub as stubs

COUNTS = {name: 150 for name in harness.LISTED} | {"charges": 700}
LISTS = [f"/v1/{name}" for name in harness.LISTED]


def small(hostile=False):
    """Thirty objects per resource."""
    return {name: objects.generate(name, 30, seed=5, hostile=hostile) for name in harness.LISTED}


def count(lake, table):
    if not duck.files(lake, table):
        return 0
    with duck.connect() as con:
        return con.execute(f"select count(*) from read_parquet({duck.quoted(duck.glob(lake, table))})").fetchone()[0]


def expect_whole(lake, tables, held):
    """Fails unless each of these tables has as many rows as the server has objects."""
    held = held | {"subscription_items": objects.items_of(held["subscriptions"])}
    found = {table: count(lake, table) for table in tables}
    assert found == {table: len(held[table]) for table in tables}


@pytest.fixture(scope="module")
def held():
    return {name: objects.generate(name, n, seed=2) for name, n in COUNTS.items()}


@pytest.fixture(scope="module")
def synced(held, home):
    """(server log, lake) of one undisturbed sync of hostile objects."""
    path = home / "stub"
    with stubs.Stub(held) as stub:
        harness.sync(stub, path).expect(0)
        assert not stub.violations, f"Stripe would refuse these requests: {stub.violations[:5]}"
        return stub, path


@pytest.mark.parametrize("table", harness.TABLES)
def test_every_leaf_that_the_server_sent_can_be_queried(synced, held, table):
    _, lake = synced
    expected = objects.items_of(held["subscriptions"]) if table == "subscription_items" else held[table]
    columns = harness.schema(table)
    with duck.connect() as con:
        rows = duck.rows(con, f"read_parquet({duck.quoted(duck.glob(lake, table))})", columns)
    added = {"livemode"} if "livemode" not in expected[0] else set()
    leaves.compare([objects.exact(o) for o in expected], rows, columns, ignore=added | {"items"})


def test_hidden_rows_are_asked_for(synced):
    stub, _ = synced
    subscriptions = [dict(r["query"]) for r in stub.asked("/v1/subscriptions")]
    assert subscriptions and all(query.get("status") == "all" for query in subscriptions)
    prices = {dict(r["query"]).get("active") for r in stub.asked("/v1/prices")}
    assert prices == {"true", "false"}, f"expected prices in both states, asked for active={prices}"


def test_items_beyond_the_embedded_page_are_fetched(synced, held):
    stub, lake = synced
    long = {s["id"]: s for s in held["subscriptions"] if len(s["items"]["data"]) > 10}
    assert long, "the objects should hold subscriptions with more than ten items"
    asked = {dict(r["query"])["subscription"] for r in stub.asked("/v1/subscription_items")}
    assert asked >= set(long), f"never asked for the items of {sorted(set(long) - asked)[:5]}"
    source = f"read_parquet({duck.quoted(duck.glob(lake, 'subscription_items'))})"
    with duck.connect() as con:
        found = dict(con.execute(f"select subscription, count(*) from {source} group by 1").fetchall())
    assert {s: found.get(s) for s in long} == {s: len(long[s]["items"]["data"]) for s in long}


def test_each_request_pins_the_version_and_keeps_the_key_in_its_header(synced):
    stub, _ = synced
    for request in stub.log:
        where = f"GET {request['path']} {request['query']}"
        assert request["headers"].get("stripe-version") == "2026-05-27.dahlia", where
        assert request["headers"].get("authorization") == f"Bearer {harness.KEY}", f"{where}: no bearer key"
        assert harness.KEY not in where, "the key stands in a URL"
        assert "gzip" in request["headers"].get("accept-encoding", ""), f"{where}: does not accept gzip"


def test_pages_are_asked_for_at_full_size(synced):
    stub, _ = synced
    n_pages = len(stub.asked("/v1/charges"))
    assert n_pages < 40, f"expected about 7 to 30 requests for 700 charges, counted {n_pages}"


def test_a_server_that_does_not_compress_gives_the_same_lake(home):
    held = small(hostile=True)
    with stubs.Stub(held, gzipped=False) as stub:
        harness.sync(stub, home / "plain").expect(0)
    expect_whole(home / "plain", harness.TABLES, held)


@pytest.mark.parametrize("kind", ["429", "500", "204", "206"])
def test_a_fault_that_passes_is_retried(home, kind):
    """[N1, N4]"""
    lake, held = home / f"retry-{kind}", small()
    with stubs.Stub(held) as stub:
        stub.fail(kind, "/v1/charges", times=2)
        harness.sync(stub, lake).expect(0)
        assert len(stub.asked("/v1/charges")) >= 3
    expect_whole(lake, harness.TABLES, held)


def test_answers_of_another_api_version_are_not_taken(home):
    """[D5]"""
    with stubs.Stub(small()) as stub:
        stub.fail("version")
        harness.sync(stub, home / "version").expect(2).expect_said("2026-05-27.dahlia", "2020-08-27")
    assert harness.tree(home / "version", "**/*.parquet") == {}


def test_a_parameter_that_stripe_refuses_is_not_told_as_a_missing_resource(home):
    with stubs.Stub(small()) as stub:
        stub.fail("parameter", "/v1/refunds")
        outcome = harness.sync(stub, home / "parameter").expect(3).expect_said("refunds", "limit")
    assert "--exclude" not in outcome.err, outcome


def test_a_bad_key_exits_4_at_once(home):
    """[A1]"""
    with stubs.Stub(small()) as stub:
        stub.fail("401")
        outcome = harness.sync(stub, home / "bad-key").expect(4)
        assert len(stub.log) <= 10, f"expected no retry of a refused key, counted {len(stub.log)} requests"
    outcome.expect_said(f"the key that ends in {harness.KEY[-4:]}", "req_stub")
    assert harness.tree(home / "bad-key", "**/*.parquet") == {}


def test_a_missing_permission_fails_that_resource_by_name_and_no_other(home):
    """[A2]"""
    lake, held = home / "forbidden", small()
    with stubs.Stub(held) as stub:
        stub.fail("403", "/v1/customers")
        outcome = harness.sync(stub, lake).expect(3)
    outcome.expect_said("customers", "rak_customer_read")
    expect_whole(lake, [t for t in harness.TABLES if t != "customers"], held)
    assert count(lake, "customers") == 0


def test_the_next_sync_repairs_what_a_partial_one_left_out(home):
    """[A2]"""
    lake, held = home / "repaired", small()
    with stubs.Stub(held) as stub:
        stub.fail("403", "/v1/customers")
        harness.sync(stub, lake).expect(3)
        stub.faults.clear()
        harness.sync(stub, lake).expect(0)
    expect_whole(lake, harness.TABLES, held)


def test_a_web_page_is_never_taken_for_data(home):
    """[N11]"""
    lake = home / "html"
    with stubs.Stub(small()) as stub:
        for path in LISTS:
            stub.fail("html", path)
        outcome = harness.sync(stub, lake, timeout=240).expect(5)
    outcome.expect_said("text/html")
    assert harness.tree(lake, "**/*.parquet") == {}


def test_broken_json_is_never_taken_for_data(home):
    """[P1]"""
    lake, held = home / "garbage", small()
    with stubs.Stub(held) as stub:
        stub.fail("garbage", "/v1/refunds")
        harness.sync(stub, lake, timeout=240).expect(3, 5).expect_said("refunds")
    expect_whole(lake, [t for t in harness.TABLES if t != "refunds"], held)
    assert count(lake, "refunds") == 0


def test_a_page_without_has_more_is_an_error_and_not_the_last_page(home):
    """[P2]"""
    lake, held = home / "no-has-more", small()
    with stubs.Stub(held) as stub:
        stub.fail("no_has_more", "/v1/charges")
        outcome = harness.sync(stub, lake, timeout=240).expect(3, 5)
    outcome.expect_said("has_more", "charges")
    runs = [json.loads(path.read_text()) for path in (lake / "_stripelake/runs").glob("*.json")]
    assert len(runs) == 1, f"expected one record of the run, found {len(runs)}"
    record = json.dumps(runs[0])
    assert "has_more" in record, f"expected the run record to say why charges failed, got {record[:2000]}"


def test_a_key_that_the_server_repeats_is_printed_nowhere(home):
    """Every fault of the stub repeats the key; `run` searches the output, this searches the lake."""
    for kind in ("401", "403", "html", "garbage"):
        lake = home / f"echo-{kind}"
        with stubs.Stub(small()) as stub:
            stub.fail(kind, "/v1/charges")
            harness.sync(stub, lake, "-v", env={"RUST_BACKTRACE": "full", "RUST_LOG": "trace"}, timeout=240)
        assert harness.in_every_file(lake, harness.KEY) == []


def test_another_account_is_refused_for_this_lake(home):
    """[A5]"""
    lake = home / "accounts"
    with stubs.Stub(small()) as stub:
        harness.sync(stub, lake).expect(0)
        before = harness.tree(lake)
    other = stubs.ACCOUNT.replace("Stub", "Else")
    with stubs.Stub(small()) as stub:
        stub.account_id = other
        harness.sync(stub, lake).expect(4).expect_said(stubs.ACCOUNT, other)
    changed = [line for line in harness.changes(before, harness.tree(lake)) if "/runs/" not in line]
    assert not [line for line in changed if ".parquet" in line or "state/" in line], changed
