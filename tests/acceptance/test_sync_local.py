"""Turns the fake account into a lake on disk, and asks DuckDB whether the lake is the account."""

import collections
import fcntl
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

import duck
import fake as fakes
import harness

SYSTEM = {"_synced_at": "TIMESTAMP WITH TIME ZONE", "_deleted": "BOOLEAN", "_extra": "JSON"}
MONEY = ["charges", "refunds", "balance_transactions"]


@pytest.mark.parametrize("table", harness.TABLES)
def test_a_table_holds_every_object_of_the_account_once(fake, con, table):
    ids = [row["id"] for row in fake.all(table)]
    n_rows, n_ids = con.execute(f"select count(*), count(distinct id) from {table}").fetchone()
    assert (n_rows, n_ids) == (len(ids), len(ids))
    found = {row[0] for row in con.execute(f"select id from {table}").fetchall()}
    assert found == set(ids), f"missing {sorted(set(ids) - found)[:5]}, foreign {sorted(found - set(ids))[:5]}"


@pytest.mark.parametrize("table", MONEY)
def test_sums_of_money_per_currency_are_exact(fake, con, table):
    expected = collections.Counter()
    for row in fake.all(table):
        expected[row["currency"]] += row["amount"]
    found = con.execute(f"select currency, sum(amount)::bigint from {table} group by 1").fetchall()
    assert dict(found) == dict(expected)


def test_nothing_of_the_account_is_marked_deleted(con):
    for table in harness.TABLES:
        assert con.execute(f"select count(*) from {table} where _deleted").fetchone() == (0,), table


@pytest.mark.parametrize("table", harness.TABLES)
def test_columns_have_the_documented_types(con, table):
    types = duck.types(con, table)
    expected = {"id": "VARCHAR", "object": "VARCHAR", "created": "TIMESTAMP WITH TIME ZONE", "livemode": "BOOLEAN"}
    expected |= SYSTEM
    wrong = {name: types.get(name) for name, kind in expected.items() if types.get(name) != kind}
    assert not wrong, f"{table}: expected {expected}, DuckDB describes {wrong}"
    partitions = [name for name in types if re.fullmatch("created_(year|month|day)", name)]
    assert len(partitions) == 1, f"{table}: expected one partition column, DuckDB describes {list(types)}"
    assert types[partitions[0]] == "DATE"


@pytest.mark.parametrize(
    "table, column, kind",
    [
        ("charges", "amount", "BIGINT"),
        ("charges", "metadata", "MAP(VARCHAR, VARCHAR)"),
        ("charges", "outcome_risk_score", "BIGINT"),
        ("charges", "payment_method_details_card_last4", "VARCHAR"),
        ("charges", "payment_method_details_other", "JSON"),
        ("prices", "unit_amount_decimal", "DECIMAL(38,12)"),
        ("balance_transactions", "exchange_rate", "DOUBLE"),
        ("balance_transactions", "available_on", "TIMESTAMP WITH TIME ZONE"),
        ("customers", "preferred_locales", "VARCHAR[]"),
    ],
)
def test_a_column_has_the_type_that_queries_rely_on(con, table, column, kind):
    assert duck.types(con, table).get(column) == kind


def test_arrays_of_objects_are_lists_of_structs(con):
    kind = duck.types(con, "balance_transactions")["fee_details"]
    assert kind.startswith("STRUCT(") and kind.endswith("[]") and "amount BIGINT" in kind.replace('"', ""), kind
    wrong = con.execute(
        "select count(*) from balance_transactions where fee <> list_sum([f.amount for f in fee_details])"
    ).fetchone()
    assert wrong == (0,), "fee is not the sum of fee_details"


def test_metadata_and_extra_can_be_queried(fake, con):
    expected = sorted(o["id"] for o in fake.all("charges") if o["metadata"])
    key = next(iter(next(o["metadata"] for o in fake.all("charges") if o["metadata"])))
    with_key = [o["id"] for o in fake.all("charges") if key in o["metadata"]]
    found = con.execute("select id from charges where cardinality(metadata) > 0 order by id").fetchall()
    assert [row[0] for row in found] == expected
    found = con.execute("select count(*) from charges where metadata[?] is not null", [key]).fetchone()
    assert found == (len(with_key),)
    assert con.execute("select count(*) from charges where _extra->>'$.no_such_member' is not null").fetchone() == (0,)


def test_a_filter_on_the_partition_column_reads_only_its_files(lake, con):
    column = next(name for name in duck.types(con, "charges") if name.startswith("created_"))
    value, n_rows = con.execute(f"select {column}, count(*) from charges group by 1 order by 1 desc limit 1").fetchone()
    expected = [f for f in duck.files(lake, "charges") if f"{column}={value}" in f.parent.name]
    n_files = len(duck.files(lake, "charges"))
    assert len(expected) == 1, f"expected one file for {column}={value}, got {expected}"
    query = f"select count(*), sum(amount) from charges where {column} = date '{value}'"
    plan = "".join(row[1] for row in con.execute(f"explain analyze {query}").fetchall())
    read = re.search(r"Total Files Read:\s*(\d+)", plan) or re.search(r"Scanning Files:\s*(\d+)/", plan)
    assert read and int(read[1]) == 1, f"expected 1 of {n_files} files to be read; plan:\n{plan}"
    assert con.execute(query).fetchone()[0] == n_rows


def test_each_row_lies_in_the_partition_of_its_created_time(con):
    for table in harness.TABLES:
        if table == "subscription_items":
            continue
        column = next(name for name in duck.types(con, table) if name.startswith("created_"))
        grain = column.removeprefix("created_")
        query = f"select count(*) from {table} where date_trunc('{grain}', created)::date <> {column}"
        assert con.execute(query).fetchone() == (0,), f"{table}: rows outside their partition (UTC)"


def test_items_lie_in_the_partition_of_their_subscription(con):
    column = next(name for name in duck.types(con, "subscription_items") if name.startswith("created_"))
    grain = column.removeprefix("created_")
    query = f"""select count(*) from subscription_items i join subscriptions s on s.id = i.subscription
        where i.{column} = date_trunc('{grain}', s.created)::date"""
    assert con.execute(query).fetchone() == con.execute("select count(*) from subscription_items").fetchone()


def test_one_file_per_partition_named_after_its_table_and_nothing_half_done(lake):
    for table in harness.TABLES:
        for path in sorted((lake / table).rglob("*")):
            if path.is_dir():
                assert re.fullmatch(r"created_(year|month|day)=\d{4}-\d\d-\d\d", path.name), path
            else:
                assert path.name == f"{table}.parquet", f"expected {table}.parquet only, found {path}"
    top = sorted(path.name for path in lake.iterdir())
    assert top == sorted([*harness.TABLES, "_stripelake"]), f"unexpected in the lake: {top}"


def test_rows_within_a_file_are_sorted_by_created_then_id(lake):
    with duck.connect() as con:
        for table in harness.TABLES:
            source = f"read_parquet({duck.quoted(duck.glob(lake, table))}, filename = true, file_row_number = true)"
            order = "partition by filename order by file_row_number"
            query = f"""select filename, file_row_number from (select *, lag(created) over w as c, lag(id) over w as i
                from {source} window w as ({order})) where c > created or (c = created and i >= id) limit 1"""
            assert con.execute(query).fetchone() is None, f"{table}: not sorted by created, id"


def test_row_groups_carry_statistics_and_ids_a_bloom_filter(lake):
    with duck.connect() as con:
        for file in duck.files(lake, "charges"):
            meta = f"parquet_metadata({duck.quoted(file)})"
            for column in ("created", "id", "amount", "currency"):
                found = con.execute(
                    f"select stats_min_value, stats_max_value, num_values, stats_null_count from {meta} "
                    "where path_in_schema = ?",
                    [column],
                ).fetchall()
                assert found and all(row[0] is not None and row[1] is not None for row in found), (
                    f"{file.parent.name}: expected minimum and maximum of {column}, got {found}"
                )
            offsets = con.execute(f"select bloom_filter_offset from {meta} where path_in_schema = 'id'").fetchall()
            assert offsets and all(row[0] for row in offsets), f"{file.parent.name}: id has no bloom filter"


def test_the_bloom_filter_excludes_ids_that_are_not_there(lake, fake):
    file = duck.files(lake, "charges")[-1]
    probe = f"select count(*) filter (bloom_filter_excludes) from parquet_bloom_probe({duck.quoted(file)}, 'id', ?)"
    with duck.connect() as con:
        held = con.execute(f"select id from read_parquet({duck.quoted(file)}) limit 50").fetchall()
        assert all(con.execute(probe, [row[0]]).fetchone() == (0,) for row in held), "an id that is there is excluded"
        absent = [con.execute(probe, [f"ch_absent{n}"]).fetchone()[0] for n in range(100)]
    assert sum(absent) > 80, f"expected most absent ids to be excluded, got {sum(absent)} of 100"


def ledger(value):
    """Every (rows, bytes) pair that a state file records, wherever it stands."""
    if isinstance(value, dict):
        here = [(value["rows"], value["bytes"])] if {"rows", "bytes"} <= value.keys() else []
        return here or [pair for member in value.values() for pair in ledger(member)]
    return [pair for member in value for pair in ledger(member)] if isinstance(value, list) else []


def test_the_state_agrees_with_the_files(lake):
    recorded, found = [], []
    states = sorted((lake / "_stripelake/state").glob("*.json"))
    assert {path.stem for path in states} >= set(harness.LISTED), f"expected a state per resource, found {states}"
    for path in states:
        recorded += ledger(json.loads(path.read_text()))
    with duck.connect() as con:
        for table in harness.TABLES:
            for file in duck.files(lake, table):
                query = f"select num_rows from parquet_file_metadata({duck.quoted(file)})"
                found.append((con.execute(query).fetchone()[0], file.stat().st_size))
    assert collections.Counter(recorded) == collections.Counter(found), (
        "rows and bytes in _stripelake/state/*.json differ from the files: "
        f"only recorded {sorted((collections.Counter(recorded) - collections.Counter(found)))[:5]}, "
        f"only on disk {sorted((collections.Counter(found) - collections.Counter(recorded)))[:5]}"
    )


def test_the_lake_says_whose_it_is_and_each_run_leaves_a_record(lake, fake):
    about = json.loads((lake / "_stripelake/lake.json").read_text())
    assert fake.account in json.dumps(about), f"expected the account {fake.account} in lake.json, got {about}"
    assert about.get("livemode") is False, f"expected livemode false in lake.json, got {about}"
    runs = sorted(pathlib.Path(lake / "_stripelake/runs").glob("*.json"))
    assert len(runs) == 1, f"expected one record for one run, found {runs}"
    record = json.dumps(json.loads(runs[0].read_text()))
    for table in harness.TABLES:
        assert f'"{table}"' in record, f"the run record does not name {table}"


def test_the_key_is_in_no_file_of_the_lake(lake, fake):
    assert harness.in_every_file(lake, fake.key) == []


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_lake_that_goes_while_a_run_is_at_work_is_no_success(tmp_path, how):
    lake = tmp_path / "gone"
    with fakes.Fake(charges=2_000, seed=4, latency="100ms") as slow:
        command = [harness.binary(), "sync", "--lake", lake, "--api-base", slow.url]
        command += ["--rate", "unlimited", "--concurrency", "2", "--progress", "none"]
        run = subprocess.Popen(
            list(map(str, command)), env=harness.environment(slow.key), stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 20
        while not (lake / "_stripelake/lake.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        if how == "removed":
            shutil.rmtree(lake)
        else:
            lake.rename(tmp_path / "elsewhere")
        if how == "replaced":
            harness.sync(slow, lake, "customers", key=slow.key).expect(0)
        said = run.communicate(timeout=60)[1]
    assert run.returncode == 6 and "moved, removed or replaced" in said, (run.returncode, said)
    if how != "replaced":
        assert harness.tree(lake, "**/*.parquet") == {}


def test_a_link_to_a_folder_in_a_table_is_named(fake, tmp_path):
    """Polars and pyarrow follow it, and DuckDB's ** does not."""
    lake, elsewhere = tmp_path / "linked", tmp_path / "elsewhere"
    harness.sync(fake, lake, "charges", key=fake.key).expect(0)
    folder = sorted((lake / "charges").iterdir())[0]
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    before = harness.tree(lake, "charges/**/*.parquet")
    harness.sync(fake, lake, "charges", key=fake.key).expect(8).expect_said("a link to a folder", folder.name, "fix:")
    assert folder.is_symlink() and harness.tree(lake, "charges/**/*.parquet") == before
    folder.unlink()
    elsewhere.rename(folder)
    harness.sync(fake, lake, "charges", key=fake.key).expect(0)


def test_a_file_whose_name_is_no_text_is_named(fake, tmp_path):
    lake = tmp_path / "bytes"
    harness.sync(fake, lake, "charges", key=fake.key).expect(0)
    file = next(lake.glob("charges/**/*.parquet"))
    copy = os.fsencode(file.parent) + b"/caf\xe9.parquet"
    shutil.copyfile(os.fsencode(file), copy)
    harness.sync(fake, lake, "charges", key=fake.key).expect(8).expect_said("not written by stripelake", "caf")
    os.unlink(copy)
    harness.sync(fake, lake, "charges", key=fake.key).expect(0)


def test_a_run_that_waits_for_the_lock_ends_at_a_signal(fake, tmp_path):
    lake = tmp_path / "waits"
    (lake / "_stripelake").mkdir(parents=True)
    with open(lake / "_stripelake/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [harness.binary(), "sync", "prices", "--lake", lake, "--api-base", fake.url, "--wait-lock", "1h"]
        run = subprocess.Popen(list(map(str, command)), env=harness.environment(fake.key), stderr=subprocess.PIPE)
        time.sleep(1.5)
        assert run.poll() is None
        run.terminate()
        began = time.monotonic()
        _, said = run.communicate(timeout=30)
    assert run.returncode == 143 and time.monotonic() - began < 5
    # Once, and not with each look.
    assert said.count(b"waiting for another run to end") == 1, said
    assert not (lake / "_stripelake/lake.json").exists()


def test_too_few_open_files_are_told_with_what_helps(fake, tmp_path):
    said = []
    for n in (18, 16, 15, 14):
        script = f'ulimit -n {n} && exec "$0" "$@"'
        lake = tmp_path / f"few{n}"
        command = ["sh", "-c", script, harness.binary(), "sync", "--lake", lake, "--api-base", fake.url]
        outcome = subprocess.run(
            list(map(str, command)), env=harness.environment(fake.key), capture_output=True, text=True, timeout=60
        )
        if outcome.returncode:
            assert outcome.returncode == 6 and "Too many open files" in outcome.stderr, (n, outcome)
            said.append(outcome.stderr)
    assert any("ulimit -n" in text for text in said), said


def test_a_variable_that_is_no_text_is_nobodys_business(fake, tmp_path):
    env = {"ODD": b"\xff\xfe", "AWS_ODD": b"\xff"}
    harness.sync(fake, tmp_path / "lake", "customers", key=fake.key, env=env).expect(0)
