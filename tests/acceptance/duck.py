"""Turns a lake into DuckDB tables, on disk or behind S3, without asking the network for extensions."""

import importlib.resources
import pathlib

import duckdb

import harness


def connect(seaweed=None):
    """A DuckDB connection in UTC; with a server it can read `s3://` from there."""
    con = duckdb.connect(config={"autoinstall_known_extensions": "false", "threads": "2"})
    con.execute("set timezone = 'UTC'")
    if seaweed is not None:
        load_httpfs(con)
        host = seaweed.endpoint.removeprefix("http://")
        con.execute(
            "create secret lake (type s3, key_id ?, secret ?, endpoint ?, region ?, "
            "url_style 'path', use_ssl false)",
            [seaweed.env["AWS_ACCESS_KEY_ID"], seaweed.env["AWS_SECRET_ACCESS_KEY"], host, "us-east-1"],
        )
    return con


def load_httpfs(con):
    """Loads the extension file that the pinned package carries."""
    shipped = importlib.resources.files("duckdb_extension_httpfs") / "extensions"
    files = sorted(pathlib.Path(str(shipped)).rglob("httpfs.duckdb_extension"))
    fitting = [file for file in files if file.parent.name == f"v{duckdb.__version__}"]
    assert fitting, f"expected an httpfs extension for DuckDB {duckdb.__version__}, found {files}"
    con.execute(f"load {quoted(str(fitting[0]))}")


def quoted(text):
    """A SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def glob(lake, table):
    """The plain glob that the documentation promises."""
    return f"{lake}/{table}/**/*.parquet"


def views(con, lake, tables=harness.TABLES):
    """One view per table over its glob."""
    for table in tables:
        con.execute(
            f"create or replace view {table} as select * from "
            f"read_parquet({quoted(glob(lake, table))}, hive_partitioning = true)"
        )
    return con


def files(lake, table):
    """The Parquet files of a table on disk, sorted."""
    return sorted((pathlib.Path(lake) / table).rglob("*.parquet"))


def types(con, table):
    """Column name -> DuckDB type."""
    return {name: kind for name, kind, *_ in con.execute(f'describe "{table}"').fetchall()}


def rows(con, source, columns):
    """Every row of a table as a dict with JSON-like values: times as seconds, maps as dicts.

    Times are read as whole microseconds, since Python's datetime ends in the year 9999.
    """
    picks = [f'{expression(c, quoted_name(c["name"]))} as {quoted_name(c["name"])}' for c in columns]
    names = [c["name"] for c in columns]
    return [dict(zip(names, row)) for row in con.execute(f"select {', '.join(picks)} from {source}").fetchall()]


def quoted_name(name):
    return '"' + name.replace('"', '""') + '"'


def expression(column, value):
    if column["type"] == "timestamp":
        return f"epoch_us({value})"
    fields = column.get("fields")
    if fields:
        parts = [f'{quoted_name(f["name"])}: {expression(f, "item." + quoted_name(f["name"]))}' for f in fields]
        item = "case when item is null then null else {" + ", ".join(parts) + "} end"
        return f"list_transform({value}, lambda item: {item})"
    if column["type"] in ("json", "rest"):
        return f"{value}::varchar"
    return value
