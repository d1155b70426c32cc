"""Turns objects in lines into Parquet with DuckDB: `rival_duckdb.py SCHEMA LINES OUT [THREADS]`."""

import sys
from pathlib import Path

import duckdb

from columns import OTHER_METHODS, ROW_GROUP, UNION, Column, read, tree

TYPES = {
    "bool": "BOOLEAN",
    "int64": "BIGINT",
    "json": "JSON",
    "map": "MAP(VARCHAR, VARCHAR)",
    "ref": "VARCHAR",
    "text": "VARCHAR",
    "timestamp": "BIGINT",
}


def sql_type(node: dict | str) -> str:
    if isinstance(node, str):
        return TYPES[node]
    return "STRUCT(" + ", ".join(f'"{key}" {sql_type(child)}' for key, child in node.items()) + ")"


def expression(column: Column) -> str:
    match column.name:
        case "_synced_at":
            return "now()"
        case "_deleted":
            return "false"
        case "_extra":
            return "null::JSON"
    path = ".".join(f'"{key}"' for key in column.path)
    match column.kind:
        case "timestamp":
            return f"to_timestamp({path})"
        case "rest":
            methods = "".join(
                f""" when {UNION}."{m}" is not null then '{{"{m}":' || {UNION}."{m}" || '}}'"""
                for m in OTHER_METHODS
            )
            return f"(case{methods} end)::JSON"
    return path


def main() -> None:
    schema, lines, out, *threads = sys.argv[1:]
    columns = read(Path(schema))
    if threads:
        duckdb.execute(f"set threads = {int(threads[0])}")
    types = ", ".join(f"\"{key}\": '{sql_type(node)}'" for key, node in tree(columns).items())
    selected = ", ".join(f'{expression(column)} as "{column.name}"' for column in columns)
    duckdb.execute(f"""
        copy (
            select {selected}
            from read_json('{lines}', format = 'newline_delimited', columns = {{{types}}})
        ) to '{out}' (format parquet, compression zstd, compression_level 1, row_group_size {ROW_GROUP})
    """)


if __name__ == "__main__":
    main()
