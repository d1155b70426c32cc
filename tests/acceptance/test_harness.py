"""Turns the suite's own tools into tests, so that a red test elsewhere is about the program.

These need no binary.
"""

import http.client
import json
import urllib.parse

import duckdb
import pytest

import duck
import leaves
import objects
import stub as stubs

COLUMNS = [
    {"name": "id", "path": "id", "type": "text"},
    {"name": "created", "path": "created", "type": "timestamp"},
    {"name": "customer", "path": "customer", "type": "ref"},
    {"name": "price", "path": "price", "type": "decimal"},
    {"name": "metadata", "path": "metadata", "type": "map"},
    {"name": "union_other", "path": "union", "type": "rest"},
    {
        "name": "fees",
        "path": "fees",
        "type": "list<{at: timestamp, flat.amount: int64}>",
        "fields": [
            {"name": "at", "path": "at", "type": "timestamp"},
            {"name": "flat_amount", "path": "flat.amount", "type": "int64"},
        ],
    },
    {"name": "_extra", "path": "", "type": "json"},
]
OBJECT = {
    "id": "x_1",
    "created": 253_402_300_800,
    "customer": {"id": "cus_1", "email": "a@b.c"},
    "price": "12.50",
    "metadata": {"a.b": 'q"'},
    "union": {"ideal": {"bank": "ing"}},
    "fees": [{"at": 7, "flat": {"amount": 2**63 - 1}, "odd": True}, {}],
    "later": {"n": 0.1, "empty": {}, "none": None, "list": []},
}
ROW = """
    select 'x_1' as id, make_timestamptz(253402300800000000) as created, 'cus_1' as customer,
      12.5::decimal(38, 12) as price, map {'a.b': 'q"'} as metadata,
      '{"ideal": {"bank": "ing"}}'::json as union_other,
      [{'at': make_timestamptz(7000000), 'flat_amount': 9223372036854775807}, {'at': null, 'flat_amount': null}] as fees,
      '{"customer": {"email": "a@b.c"}, "fees": [{"odd": true}], "later": {"n": 0.10, "list": []}}'::json as _extra
"""


def rebuilt():
    with duck.connect() as con:
        try:
            con.execute("load json")
        except duckdb.Error:
            pass
        con.execute(f"create table made as {ROW}")
        return duck.rows(con, "made", COLUMNS)


def test_a_row_with_every_kind_of_column_is_rebuilt_into_its_object():
    leaves.compare([objects.exact(OBJECT)], rebuilt(), COLUMNS)


@pytest.mark.parametrize(
    "path, value",
    [
        (("price",), "12.51"),
        (("created",), 253_402_300_801),
        (("later", "n"), 0.11),
        (("later", "list"), [1]),
        (("fees", 0, "flat", "amount"), 2**63 - 2),
        (("fees", 0, "odd"), 1),
        (("union", "ideal", "bank"), "abn"),
        (("metadata", "a.b"), None),
        (("customer", "email"), "other"),
    ],
)
def test_one_changed_leaf_is_noticed(path, value):
    changed = json.loads(json.dumps(OBJECT))
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(AssertionError, match="1 of 1 rows differ"):
        leaves.compare([objects.exact(changed)], rebuilt(), COLUMNS)


def test_a_leaf_in_two_columns_is_noticed():
    row = rebuilt()[0]
    row["_extra"] = '{"price": "12.5"}'
    with pytest.raises(AssertionError, match="stands in two columns"):
        leaves.compare([objects.exact(OBJECT)], [row], COLUMNS)


def test_the_same_seed_makes_the_same_objects_and_another_seed_makes_others():
    first, again = (objects.encode(objects.generate("charges", 60, seed=3)) for _ in range(2))
    assert first == again
    assert first != objects.encode(objects.generate("charges", 60, seed=4))


def test_objects_have_every_payment_method_and_every_kind_of_trouble():
    charges = objects.generate("charges", 2_000)
    details = [c["payment_method_details"] for c in charges]
    seen = {member for d in details if isinstance(d, dict) for member in d}
    known = {k for k in objects.shape("charges")["payment_method_details"] if k != "type"}
    assert not known - seen, f"no charge is paid by {sorted(known - seen)}"
    text = objects.encode(charges)
    for trouble in ["9223372036854775807", "1e400", "9223372036854775808", "👩", '"_extra"', '"do.t"', '"deleted"']:
        assert trouble in text, f"no charge holds {trouble}"


def walk(stub, path, **query):
    """The twenty-line client: follows has_more with the last id."""
    host = urllib.parse.urlsplit(stub.url)
    connection = http.client.HTTPConnection(host.hostname, host.port, timeout=10)
    found, cursor = [], {}
    while True:
        target = f"{path}?{urllib.parse.urlencode(query | cursor)}"
        connection.request("GET", target, headers={"Authorization": "Bearer rk_test_x"})
        page = leaves.parse(connection.getresponse().read())
        if "data" not in page or not page["data"]:
            connection.close()
            return found if "data" in page else page
        found += page["data"]
        cursor = {"starting_after": page["data"][-1]["id"]}
        if not page["has_more"]:
            connection.close()
            return found


def test_the_stub_shows_each_object_once_newest_first():
    charges = objects.generate("charges", 250)
    with stubs.Stub({"charges": charges}) as stub:
        for limit in (1, 7, 100):
            assert walk(stub, "/v1/charges", limit=limit) == objects.exact(charges)


def test_the_stub_cuts_windows_without_gap_or_overlap():
    charges = objects.generate("charges", 250)
    edge = charges[100]["created"]
    with stubs.Stub({"charges": charges}) as stub:
        newer = walk(stub, "/v1/charges", **{"limit": 100, "created[gte]": edge})
        older = walk(stub, "/v1/charges", **{"limit": 9, "created[lt]": edge})
    assert [o["id"] for o in newer + older] == [o["id"] for o in charges]


def test_the_stub_hides_what_stripe_hides_and_cuts_embedded_lists():
    subscriptions = objects.generate("subscriptions", 60, hostile=False)
    for index, subscription in enumerate(subscriptions):
        subscription["status"] = "canceled" if index % 3 == 0 else "active"
    with stubs.Stub({"subscriptions": subscriptions}) as stub:
        assert len(walk(stub, "/v1/subscriptions")) == 40
        shown = walk(stub, "/v1/subscriptions", status="all")
        cut = [o for o in shown if o["items"]["has_more"]]
        items = walk(stub, "/v1/subscription_items", subscription=cut[0]["id"], limit=3)
    assert len(shown) == 60 and len(cut) == 2 and len(cut[0]["items"]["data"]) == 10
    assert len(items) == len(subscriptions[7]["items"]["data"]) > 10


@pytest.mark.parametrize(
    "query, param",
    [
        ({"starting_after": "ch_none"}, "starting_after"),
        ({"limit": 101}, "limit"),
        ({"nonsense": 1}, "nonsense"),
        ({"created[gte]": "yesterday"}, "created[gte]"),
    ],
)
def test_the_stub_refuses_what_stripe_refuses(query, param):
    with stubs.Stub({"charges": objects.generate("charges", 3)}) as stub:
        assert walk(stub, "/v1/charges", **query)["error"]["param"] == param


def test_duckdb_reads_from_seaweedfs_what_it_wrote_there(seaweed):
    with duck.connect(seaweed) as con:
        con.execute("copy (select range as n, 'x' as name from range(1000)) to 's3://lake/try/part=1/a.parquet'")
        total = con.execute("select sum(n) from read_parquet('s3://lake/try/**/*.parquet')").fetchone()
    assert total == (499_500,)
    etag, size = seaweed.list("try/")["try/part=1/a.parquet"]
    assert etag and size > 0
