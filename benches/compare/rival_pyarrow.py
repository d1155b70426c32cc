"""Turns objects in lines into Parquet with pyarrow: `rival_pyarrow.py SCHEMA LINES OUT`.

pyarrow reads no maps and no JSON text: what is a JSON column elsewhere stays the struct that was declared for it.
"""

import datetime
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from columns import OTHER_METHODS, ROW_GROUP, UNION, Column, read, tree

TYPES = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "json": pa.struct([]),
    "ref": pa.string(),
    "text": pa.string(),
    "timestamp": pa.int64(),
}
TIME = pa.timestamp("us", "UTC")


def texts(*names: str) -> pa.DataType:
    return pa.struct([(name, pa.string()) for name in names])


# What the fake account puts into a map and into each method: keys that are not here are lost.
METADATA = texts(
    "plan", "région", "campaign", "cart_id", "order_id", "user_id", "internal ref", "note", "tenant"
)
METHODS = {
    "cashapp": texts("buyer_id", "cashtag", "transaction_id"),
    "ideal": texts(
        "bank", "bic", "generated_sepa_debit", "generated_sepa_debit_mandate", "iban_last4",
        "transaction_id", "verified_name",
    ),
    "link": texts("country"),
    "paypal": pa.struct([
        ("country", pa.string()),
        ("payer_email", pa.string()),
        ("payer_id", pa.string()),
        ("payer_name", pa.string()),
        ("seller_protection", pa.struct([
            ("dispute_categories", pa.list_(pa.string())),
            ("status", pa.string()),
        ])),
        ("transaction_id", pa.string()),
    ]),
    "sepa_debit": texts("bank_code", "branch_code", "country", "fingerprint", "last4", "mandate"),
    "us_bank_account": texts(
        "account_holder_type", "account_type", "bank_name", "fingerprint", "last4", "mandate",
        "payment_reference", "routing_number",
    ),
}


def arrow_type(key: str, node: dict | str) -> pa.DataType:
    if node == "map":
        return METADATA
    if key in METHODS:
        return METHODS[key]
    if isinstance(node, str):
        return TYPES[node]
    return pa.struct([(key, arrow_type(key, child)) for key, child in node.items()])


def column_of(table: pa.Table, column: Column) -> pa.ChunkedArray | pa.Array:
    match column.name:
        case "_synced_at":
            return pa.repeat(pa.scalar(datetime.datetime.now(datetime.UTC), TIME), len(table))
        case "_deleted":
            return pa.repeat(False, len(table))
        case "_extra":
            return pa.nulls(len(table), pa.string())
    first, *rest = column.path
    if column.kind == "rest":
        methods = [pc.struct_field(table[UNION], method) for method in OTHER_METHODS]
        structs = [
            pa.StructArray.from_arrays([m.chunk(n) for m in methods], OTHER_METHODS)
            for n in range(table[UNION].num_chunks)
        ]
        return pa.chunked_array(structs)
    path = pc.struct_field(table[first], rest) if rest else table[first]
    if column.kind == "timestamp":
        return path.cast(pa.timestamp("s", "UTC")).cast(TIME)
    return path


def main() -> None:
    schema, lines, out = sys.argv[1:]
    columns = read(Path(schema))
    shape = pa.schema([(key, arrow_type(key, node)) for key, node in tree(columns).items()])
    options = pyarrow.json.ParseOptions(explicit_schema=shape, unexpected_field_behavior="ignore")
    table = pyarrow.json.read_json(lines, parse_options=options)
    # Parquet cannot write a struct without members; these columns have none in the fake account.
    flat = {
        column.name: column_of(table, column) if column.kind != "json" else pa.nulls(len(table), pa.string())
        for column in columns
    }
    pq.write_table(pa.table(flat), out, compression="zstd", compression_level=1, row_group_size=ROW_GROUP)


if __name__ == "__main__":
    main()
