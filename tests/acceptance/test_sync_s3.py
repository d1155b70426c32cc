"""Turns the fake account into a lake behind a real S3 server."""

import hashlib
import json

import pytest

import duck
import harness
import s3_proxy
import seaweed as seaweeds

PREFIX = "stripe/test/"


@pytest.fixture
def con(s3_lake, seaweed):
    with duck.connect(seaweed) as connection:
        yield duck.views(connection, s3_lake)


@pytest.mark.parametrize("table", harness.TABLES)
def test_a_table_behind_s3_holds_every_object_once(fake, con, table):
    expected = sorted(row["id"] for row in fake.all(table))
    assert [row[0] for row in con.execute(f"select id from {table} order by id").fetchall()] == expected


def test_a_table_behind_s3_has_the_types_and_sums_of_the_one_on_disk(con, lake):
    with duck.connect() as local:
        duck.views(local, lake)
        for table in harness.TABLES:
            assert duck.types(con, table) == duck.types(local, table)
        query = "select currency, count(*), sum(amount), min(created), max(created) from charges group by 1 order by 1"
        query = query.replace("min(created), max(created)", "min(epoch(created)), max(epoch(created))")
        assert con.execute(query).fetchall() == local.execute(query).fetchall()


def test_objects_lie_where_the_files_of_a_local_lake_lie(s3_lake, seaweed, lake):
    keys = {key.removeprefix(PREFIX) for key in seaweed.list(PREFIX) if key.endswith(".parquet")}
    assert keys == set(harness.tree(lake, "**/*.parquet"))


def test_the_state_behind_s3_parses(s3_lake, seaweed, fake):
    keys = [key for key in seaweed.list(PREFIX + "_stripelake/") if key.endswith(".json")]
    assert PREFIX + "_stripelake/lake.json" in keys, f"expected lake.json, found {keys}"
    for key in keys:
        body = seaweed.get(f"/{seaweeds.BUCKET}/{key}")
        json.loads(body)
        assert fake.key.encode() not in body, f"the API key stands in {key}"
    for resource in harness.LISTED:
        assert f"{PREFIX}_stripelake/state/{resource}.json" in keys


def test_a_second_sync_replaces_no_object(s3_lake, seaweed, fake):
    parquet = lambda: {k: v for k, v in seaweed.list(PREFIX).items() if k.endswith(".parquet")}
    before = parquet()
    harness.sync(fake, s3_lake, key=fake.key, env=seaweed.env).expect(0)
    assert before and parquet() == before


def test_a_missing_bucket_is_named_and_exits_6(seaweed, fake):
    outcome = harness.sync(fake, "s3://no-such-bucket/x", key=fake.key, env=seaweed.env).expect(6)
    outcome.expect_said("no-such-bucket")


def test_a_wrong_secret_exits_6_and_is_not_shown(seaweed, fake):
    env = seaweed.env | {"AWS_SECRET_ACCESS_KEY": "wrong-secret-canary-5309"}
    outcome = harness.sync(fake, "s3://lake/wrong", key=fake.key, env=env).expect(6)
    assert "wrong-secret-canary-5309" not in outcome.said, f"the AWS secret stands in the output\n{outcome}"
    assert "error" in outcome.err.lower() and "s3://lake/wrong" in outcome.said, f"expected the lake by name\n{outcome}"
    assert seaweed.list("wrong") == {}


def test_the_lake_names_the_bucket_whatever_the_environment_says(seaweed, fake):
    env = seaweed.env | {"AWS_BUCKET": "other", "AWS_BUCKET_NAME": "another"}
    harness.sync(fake, "s3://lake/bucket", "customers", key=fake.key, env=env).expect(0)
    assert any(key.endswith(".parquet") for key in seaweed.list("bucket/"))


def test_virtual_hosts_without_the_bucket_in_the_endpoint_exit_2(seaweed, fake):
    env = seaweed.env | {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}
    outcome = harness.sync(fake, "s3://lake/hosted", key=fake.key, env=env).expect(2)
    outcome.expect_said("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "fix:")


def test_a_lease_that_ends_in_years_may_be_removed(seaweed, fake):
    """[S6] A run was killed whose clock was wrong."""
    lake = "s3://lake/years"
    harness.sync(fake, lake, "customers", key=fake.key, env=seaweed.env).expect(0)
    lease = {"run_id": "old", "epoch": 1, "expires_at": "2099-01-01T00:00:00Z"}
    seaweed.put(f"/{seaweeds.BUCKET}/years/_stripelake/lease.json", json.dumps(lease).encode())
    outcome = harness.sync(fake, lake, "customers", key=fake.key, env=seaweed.env).expect(11)
    outcome.expect_said("clock", "_stripelake/lease.json")


@pytest.mark.parametrize("out", ["all", "writes"])
def test_o1_a_store_that_is_out_for_longer_than_a_lease_lasts_is_waited_for(seaweed, fake, out):
    url = f"s3://lake/outage-{out}"
    with s3_proxy.S3Proxy(seaweed) as proxy:
        proxy.out_from, proxy.out_secs = f"PUT /lake/outage-{out}/customers/", 40.0 if out == "all" else 55.0
        if out == "writes":
            proxy.out_methods = ("PUT", "POST", "DELETE")
        outcome = harness.sync(fake, url, key=fake.key, env=proxy.env).expect(0)
        assert proxy.out_until and "does not answer as it should" in outcome.err
    with duck.connect(seaweed) as con:
        duck.views(con, url)
        for table in harness.TABLES:
            expected = sorted(row["id"] for row in fake.all(table))
            assert [id for id, in con.execute(f"select id from {table} order by id").fetchall()] == expected


def test_a_byte_that_changes_on_its_way_to_the_store_is_sent_again(seaweed, fake):
    url = "s3://lake/altered"
    with s3_proxy.S3Proxy(seaweed) as proxy:
        proxy.alter = "PUT /lake/altered/customers/"
        harness.sync(fake, url, key=fake.key, env=proxy.env).expect(0)
        assert proxy.n_altered == 1
    # It is as it was written: a second run replaces nothing.
    before = seaweed.list("altered/customers/")
    harness.sync(fake, url, "--full", key=fake.key, env=seaweed.env).expect(0)
    assert before and seaweed.list("altered/customers/") == before
    with duck.connect(seaweed) as con:
        duck.views(con, url)
        assert con.execute("select count(*) from customers").fetchone()[0] == len(fake.all("customers"))


@pytest.fixture
def incompressible(tmp_path):
    """Charges that come to a file of five parts."""
    file = tmp_path / "charges.ndjson"
    with file.open("w") as lines:
        for n in range(56_000):
            noise = "".join(hashlib.sha256(f"{n} {k}".encode()).hexdigest() for k in range(40))
            charge = {"id": f"ch_{n}", "object": "charge", "created": 1_700_000_000 + n // 100, "description": noise}
            lines.write(json.dumps(charge) + "\n")
    return file


def test_a_part_that_changes_on_its_way_to_the_store_is_sent_again(seaweed, incompressible):
    url = "s3://lake/parts"
    with s3_proxy.S3Proxy(seaweed) as proxy:
        proxy.alter = "partNumber=2"
        harness.run("import", "charges", incompressible, "--lake", url, env=proxy.env).expect(0)
        assert proxy.n_altered == 1
    with duck.connect(seaweed) as con:
        sums = "select count(*), bit_xor(hash(id, description))"
        counted = con.execute(f"{sums} from read_parquet('{url}/charges/**/*.parquet')").fetchone()
        assert counted == con.execute(f"{sums} from read_json('{incompressible}')").fetchone()


def test_a_part_that_changes_each_time_is_no_success(seaweed, incompressible):
    with s3_proxy.S3Proxy(seaweed) as proxy:
        proxy.alter, proxy.most_altered = "partNumber=2", 1_000
        outcome = harness.run("import", "charges", incompressible, "--lake", "s3://lake/never", env=proxy.env)
        assert "other bytes have arrived" in outcome.expect(6).err and proxy.n_altered > 2


def test_an_object_that_cannot_be_read_back_is_not_called_damaged(seaweed, incompressible):
    with s3_proxy.S3Proxy(seaweed) as proxy:
        proxy.alter, proxy.most_altered, proxy.deny = "partNumber=2", 3, "HEAD /lake/unread/charges"
        outcome = harness.run("import", "charges", incompressible, "--lake", "s3://lake/unread", env=proxy.env)
        assert "403" in outcome.expect(6).err and "other bytes have arrived" not in outcome.err
