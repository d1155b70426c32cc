"""Turns `stripelake demo` into what a newcomer sees in the first minute."""

import json
import shlex

import pytest

import duck
import fake as fakes
import harness


@pytest.fixture(scope="module")
def demo(home):
    """One demo run: its outcome and its lake."""
    path = home / "demo"
    return harness.run("demo", path, key=None).expect(0), path


def test_demo_needs_no_key_and_prints_a_table_of_what_it_made(demo):
    outcome, path = demo
    con = duck.views(duck.connect(), path)
    for table in harness.TABLES:
        n_rows = con.execute(f"select count(*) from {table}").fetchone()[0]
        assert n_rows > 0, f"the demo lake has no {table}"
        lines = [line for line in outcome.out.splitlines() if line.split()[:1] == [table]]
        assert lines, f"expected a line that starts with {table} on stdout\n{outcome}"
        shown = lines[0].replace(",", "")
        assert str(n_rows) in shown.split(), f"{table} has {n_rows} rows, stdout says {lines[0]!r}"


def test_demo_is_brief_and_says_what_to_type_next(demo):
    outcome, path = demo
    assert len(outcome.out.splitlines()) <= 24, f"expected a page that fits a terminal\n{outcome}"
    outcome.expect_said("duckdb", "views.sql")


@pytest.mark.parametrize("folder", ["amount=5", "created_month=2020-01-01/lake"])
def test_no_demo_is_made_where_readers_would_take_a_folder_for_a_column(tmp_path, folder):
    outcome = harness.run("demo", tmp_path / folder, "--charges", "5", key=None).expect(2)
    outcome.expect_said(folder.split("=")[0])
    assert not (tmp_path / folder).exists()


def test_no_views_are_printed_of_a_lake_that_was_moved_to_such_a_place(tmp_path):
    harness.run("demo", tmp_path / "movable", "--charges", "5", "-q", key=None).expect(0)
    (tmp_path / "currency=zzz").mkdir()
    moved = (tmp_path / "movable").rename(tmp_path / "currency=zzz" / "lake")
    outcome = harness.run("sql", "--lake", moved, key=None).expect(2)
    assert outcome.out == "" and "currency" in outcome.err


def test_no_demo_goes_into_a_lake_that_may_be_of_another_account(tmp_path):
    charge = {"id": "ch_1", "object": "charge", "created": 1_700_000_000, "livemode": False}
    file = tmp_path / "one.ndjson"
    file.write_text(json.dumps(charge))
    harness.run("import", "charges", file, "--lake", tmp_path / "imported", key=None).expect(0)
    before = harness.tree(tmp_path / "imported", "**/*")
    harness.run("demo", tmp_path / "imported", "--charges", "5", key=None).expect(4)
    assert not harness.changes(before, harness.tree(tmp_path / "imported", "**/*"))


def test_a_file_in_the_place_of_the_demo_is_named_as_such(tmp_path):
    (tmp_path / "file").write_text("mine")
    outcome = harness.run("demo", tmp_path / "file", key=None).expect(6)
    outcome.expect_said("expected a folder, got a file")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_line_to_type_next_is_one_that_a_shell_takes(tmp_path):
    outcome = harness.run("demo", tmp_path / "it's my lake", "--charges", "5", key=None).expect(0)
    line = next(line for line in outcome.out.splitlines() if "duckdb" in line)
    assert shlex.split(line) == ["duckdb", "-init", f"{tmp_path}/it's my lake/_stripelake/views.sql"]


def test_demo_writes_views_that_duckdb_runs(demo):
    _, path = demo
    script = path / "_stripelake" / "views.sql"
    assert script.is_file(), f"expected {script.relative_to(path)} in the demo lake"
    with duck.connect() as con:
        con.execute(script.read_text())
        for table in harness.TABLES:
            assert con.execute(f"select count(*) from {table}").fetchone()[0] > 0
        methods = con.execute(
            "select payment_method_details_type, count(*), sum(amount) from charges where paid group by 1"
        ).fetchall()
    assert len(methods) > 3, f"expected several payment methods in the demo account, got {methods}"


def test_a_second_demo_into_the_same_folder_changes_no_file(demo):
    _, path = demo
    before = harness.tree(path, "**/*.parquet")
    harness.run("demo", path, key=None).expect(0)
    assert not harness.changes(before, harness.tree(path, "**/*.parquet"))


def test_a_second_sync_changes_no_file_and_takes_fewer_requests(home):
    path = home / "twice"
    with fakes.Fake(charges=800, seed=3) as fake:
        first = harness.sync(fake, path, "--json", key=fake.key).expect(0)
        before = harness.tree(path, "**/*.parquet")
        second = harness.sync(fake, path, "--json", key=fake.key).expect(0)
    assert before, "the first sync wrote no Parquet file"
    assert not harness.changes(before, harness.tree(path, "**/*.parquet"))
    for outcome in (first, second):
        events = [json.loads(line) for line in outcome.out.splitlines()]
        assert events, f"expected NDJSON events on stdout\n{outcome}"


@pytest.mark.parametrize("charges", [0, 1])
def test_an_empty_account_and_a_tiny_one_make_a_lake_that_can_be_queried(home, charges):
    path = home / f"tiny-{charges}"
    with fakes.Fake(charges=charges, seed=1) as fake:
        harness.sync(fake, path, key=fake.key).expect(0)
        assert len(fake.all("charges")) == charges
    script = harness.run("sql", "--lake", path, key=None).expect(0).out
    with duck.connect() as con:
        con.execute(script)
        if charges:
            assert con.execute("select count(*) from charges").fetchone() == (charges,)
