"""Turns the commands that only report (`sql`, `schema`, `resources`) into what scripts rely on."""

import json
import shutil

import pytest

import duck
import harness

TYPES = {"text", "ref", "int64", "float64", "bool", "timestamp", "decimal", "map", "json", "rest"}


@pytest.mark.parametrize("name", ["plain", "with space", "o'clock", 'semi; "double" -- dash', "Zoë/日本"])
def test_sql_prints_views_that_duckdb_runs_whatever_the_path(lake, con, home, name):
    path = home / "sql" / name
    if not path.exists():
        shutil.copytree(lake, path)
    script = harness.run("sql", "--lake", path, key=None).expect(0).out
    assert "create" in script.lower() and "view" in script.lower(), f"expected CREATE VIEW statements, got {script[:500]}"
    with duck.connect() as fresh:
        fresh.execute(script)
        for table in harness.TABLES:
            expected = con.execute(f"select count(*) from {table}").fetchone()
            assert fresh.execute(f"select count(*) from {table}").fetchone() == expected, table


def normal(kind):
    """One spelling for a DuckDB type."""
    return kind.replace('"', "").upper().replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ").replace(" ", "")


def test_sql_works_from_a_relative_lake(lake, con, home):
    script = harness.run("sql", "--lake", lake.name, key=None, cwd=lake.parent).expect(0).out
    with duck.connect() as fresh:
        fresh.execute(script.replace(f"'{lake.name}/", f"'{lake}/"))
        expected = con.execute("select count(*) from charges").fetchone()
        assert fresh.execute("select count(*) from charges").fetchone() == expected


def test_sql_without_a_lake_says_so(home):
    outcome = harness.run("sql", "--lake", home / "no-lake-here", key=None)
    assert outcome.code != 0, f"expected an error for a lake that does not exist\n{outcome}"
    outcome.expect_said("no-lake-here")
    assert not (home / "no-lake-here").exists()


@pytest.mark.parametrize("table", harness.TABLES)
def test_schema_reports_the_columns_that_the_files_have(con, table):
    columns = harness.schema(table)
    types = duck.types(con, table)
    names = [column["name"] for column in columns]
    in_files = [name for name in types if not (name.startswith("created_") and types[name] == "DATE")]
    assert names == in_files, "`schema --json` and the files disagree on names or order"
    for column in columns:
        kind = column["type"]
        assert kind in TYPES or kind.startswith("list<"), f"{column['name']}: unknown type {kind!r}"
        assert column["arrow"], f"{column['name']}: no arrow type"
        assert normal(column["duckdb"]) == normal(types[column["name"]]), column["name"]
        joined = column["path"].replace(".", "_") + ("_other" if kind == "rest" else "")
        assert column["name"] == joined or not column["path"], f"{column['name']} comes from {column['path']}"


def test_schema_without_json_is_a_readable_list():
    outcome = harness.run("schema", "charges", key=None).expect(0)
    for name in ("amount", "payment_method_details_card_brand", "metadata", "_extra"):
        assert any(line.split()[:1] == [name] for line in outcome.out.splitlines()), f"no line for {name}\n{outcome}"


def test_schema_without_a_resource_reports_all_seven():
    outcome = harness.run("schema", "--json", key=None).expect(0)
    try:
        reports = json.loads(outcome.out)
    except json.JSONDecodeError:
        reports = [json.loads(line) for line in outcome.out.splitlines()]
    reports = reports if isinstance(reports, list) else reports.get("resources", reports)
    assert sorted(report["resource"] for report in reports) == harness.TABLES


def test_schema_of_an_unknown_resource_suggests_the_near_one():
    harness.run("schema", "refund", key=None).expect(2).expect_said("refunds")


def test_resources_lists_the_seven_tables():
    outcome = harness.run("resources", key=None).expect(0)
    first_words = {line.split()[0] for line in outcome.out.splitlines() if line.strip()}
    assert set(harness.TABLES) <= first_words, f"expected {harness.TABLES}\n{outcome}"
