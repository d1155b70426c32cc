"""Turns objects in lines into Parquet with Polars: `rival_polars.py SCHEMA LINES OUT`.

Polars has no maps and no JSON type; it gives objects as text where the schema says text.
"""

import datetime
import sys
from pathlib import Path

import polars as pl

from columns import OTHER_METHODS, ROW_GROUP, UNION, Column, read, tree

TYPES = {
    "bool": pl.Boolean,
    "int64": pl.Int64,
    "json": pl.String,
    "map": pl.String,
    "ref": pl.String,
    "text": pl.String,
    "timestamp": pl.Int64,
}
TIME = pl.Datetime("us", "UTC")


def polars_type(node: dict | str):
    if isinstance(node, str):
        return TYPES[node]
    return pl.Struct({key: polars_type(child) for key, child in node.items()})


def expression(column: Column) -> pl.Expr:
    match column.name:
        case "_synced_at":
            return pl.lit(datetime.datetime.now(datetime.UTC)).cast(TIME)
        case "_deleted":
            return pl.lit(False)
        case "_extra":
            return pl.lit(None, dtype=pl.String)
    first, *rest = column.path
    path = pl.col(first)
    for key in rest:
        path = path.struct.field(key)
    match column.kind:
        case "timestamp":
            return pl.from_epoch(path, "s").cast(TIME)
        case "rest":
            methods = [pl.col(UNION).struct.field(method) for method in OTHER_METHODS]
            texts = [pl.format(f'{{{{"{m}":{{}}}}}}', field) for m, field in zip(OTHER_METHODS, methods)]
            return pl.coalesce(
                pl.when(field.is_not_null()).then(text) for text, field in zip(texts, methods)
            )
    return path


def main() -> None:
    schema, lines, out = sys.argv[1:]
    columns = read(Path(schema))
    shape = {key: polars_type(node) for key, node in tree(columns).items()}
    frame = pl.scan_ndjson(lines, schema=shape)
    frame = frame.select(expression(column).alias(column.name) for column in columns)
    frame.sink_parquet(out, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)


if __name__ == "__main__":
    main()
