"""Archives that are imported between syncs: the newest observation of everything stays."""

import itertools
import json
import time

import pytest

import duck
import harness
import objects
import stub as stubs


def held(lake, table, column):
    """id -> a column of every row in the lake."""
    with duck.connect() as con:
        glob = duck.quoted(duck.glob(lake, table))
        return dict(con.execute(f"select id, {column} from read_parquet({glob})").fetchall())


def named(n, seed):
    """Customers whose name is their id."""
    return [customer | {"name": customer["id"]} for customer in objects.generate("customers", n, seed=seed, hostile=False)]


def archive(home, name, resource, values, lake, observed_at):
    path = home / f"{name}.ndjson"
    path.write_text("".join(objects.encode(value) + "\n" for value in values))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(observed_at))
    harness.run("import", resource, path, "--lake", lake, "--observed-at", at, key=None).expect(0)


def test_what_a_window_has_seen_is_not_taken_back(home):
    """An item came and a value went back to what it was, which leaves no newer row of the object itself."""
    lake = home / "window"
    customers = named(30, seed=5)
    [subscription] = objects.generate("subscriptions", 1, seed=5, hostile=False)
    subscription["items"]["has_more"] = False
    later = json.loads(json.dumps(subscription))
    added = later["items"]["data"][0] | {"id": "si_added"}
    later["items"]["data"].insert(0, added)
    between = [customer | {"name": "for a while"} for customer in customers]
    with stubs.Stub({"customers": customers, "subscriptions": [subscription]}) as stub:
        harness.sync(stub, lake, "customers", "subscriptions").expect(0)
        taken_at = time.time() + 1
        time.sleep(2.1)
        stub.tables |= {"subscriptions": [later], "subscription_items": objects.items_of([later])}
        harness.sync(stub, lake, "customers", "subscriptions", "--since", "2000-01-01").expect(0)
        archive(home, "window-customers", "customers", between, lake, taken_at)
        archive(home, "window-subscriptions", "subscriptions", [subscription], lake, taken_at)
        assert held(lake, "customers", "name") == {c["id"]: c["id"] for c in customers}
        assert "si_added" in held(lake, "subscription_items", "subscription")
        # What is newer still counts.
        time.sleep(1.1)
        archive(home, "window-newer", "customers", between, lake, time.time())
        assert set(held(lake, "customers", "name").values()) == {"for a while"}


@pytest.mark.parametrize("hours", [-30, 30])
def test_the_time_of_an_archive_is_compared_by_one_clock(home, hours):
    """The machine's, as that of the archive: Stripe's may be another."""
    lake = home / f"clock{hours}"
    customers = named(30, seed=6)
    with stubs.Stub({"customers": customers}) as stub:
        stub.clock_ahead = hours * 3600
        harness.sync(stub, lake, "customers").expect(0)
    between = [customer | {"name": "other"} for customer in customers]
    archive(home, "clock", "customers", between, lake, time.time() - 3600)
    assert held(lake, "customers", "name") == {c["id"]: c["id"] for c in customers}
    time.sleep(1.1)
    archive(home, "clock", "customers", between, lake, time.time())
    assert set(held(lake, "customers", "name").values()) == {"other"}


def test_an_archive_in_an_unfinished_listing_is_looked_at_again(home):
    """What the listing has read and what an archive has taken back would not be read again otherwise."""
    lake = home / "unfinished"
    customers = named(500, seed=7)
    customers.sort(key=lambda customer: (-customer["created"], customer["id"]))
    with stubs.Stub({"customers": customers}) as stub:
        harness.sync(stub, lake, "customers").expect(0)
        taken_at = time.time() + 1
        time.sleep(2.1)
        budget = ["--max-requests", "4", "--concurrency", "1"]
        harness.sync(stub, lake, "customers", *budget).expect(9)
        state = json.loads((lake / "_stripelake/state/customers.json").read_text())
        assert state["progress"]["read"]
        between = [customer | {"name": "for a while"} for customer in customers]
        archive(home, "unfinished", "customers", between, lake, taken_at)
        assert "for a while" in held(lake, "customers", "name").values()
        began = time.strftime("as of %Y-%m-%d", time.gmtime())
        assert began in harness.sync(stub, lake, "customers").expect(0).out
        assert held(lake, "customers", "name") == {c["id"]: c["id"] for c in customers}
        assert "as of" not in harness.sync(stub, lake, "customers").expect(0).out


def rows(lake, table):
    """All of a table but the order."""
    with duck.connect() as con:
        glob = duck.quoted(duck.glob(lake, table))
        return con.execute(f"select * from read_parquet({glob}) order by id").fetchall()


def test_i3_the_order_of_archives_does_not_matter(home):
    """Also where a form was there, was gone and came back, which leaves the row as it was at first."""
    [first] = objects.generate("subscriptions", 1, seed=9, hostile=False)
    first["items"] |= {"has_more": False, "data": [first["items"]["data"][0] | {"id": f"si_{n}"} for n in (1, 2)]}
    between = json.loads(json.dumps(first)) | {"description": "for a while"}
    del between["items"]["data"][1]
    archives = [(first, 1_700_000_000), (between, 1_710_000_000), (first, 1_720_000_000)]
    lakes = []
    for n, order in enumerate(itertools.permutations(archives)):
        lake = home / f"order{n}"
        for value, observed_at in order:
            archive(home, "order", "subscriptions", [value], lake, observed_at)
        lakes.append([rows(lake, table) for table in ("subscriptions", "subscription_items")])
    assert len(lakes[0][1]) == 2
    for lake in lakes:
        assert lake == lakes[0]
    assert held(home / "order0", "subscriptions", "epoch(_synced_at)::bigint") == {first["id"]: 1_720_000_000}
