"""Turns a folder of Parquet or of Singer messages into what it holds, as JSON: rows, ids, the sum of the amounts."""

import json
import sys
from pathlib import Path

import pyarrow.parquet


def messages(file: Path) -> list[tuple[str, int]]:
    with open(file, encoding="utf-8") as lines:
        parsed = map(json.loads, lines)
        records = [message["record"] for message in parsed if message["type"] == "RECORD"]
    return [(record["id"], record["amount"]) for record in records]


def rows(file: Path) -> list[tuple[str, int]]:
    with pyarrow.parquet.ParquetFile(file) as parquet:
        table = parquet.read(columns=["id", "amount"])
    return list(zip(table["id"].to_pylist(), table["amount"].to_pylist()))


def held(folder: Path) -> dict:
    found = [row for file in folder.rglob("*.ndjson") for row in messages(file)]
    found += [row for file in folder.rglob("*.parquet") for row in rows(file)]
    return {
        "n_rows": len(found),
        "n_ids": len({id for id, _ in found}),
        "sum_of_amount": sum(amount for _, amount in found),
    }


if __name__ == "__main__":
    print(json.dumps(held(Path(sys.argv[1]))))
