"""Turns Parquet files into what they hold, as JSON: rows, sums, and a sum over the values of some columns."""

import json
import sys

import duckdb

# One of each sort: top level, nested, deep, flag, time, number, reference, and the key itself.
COMPARED = [
    "id",
    "created",
    "currency",
    "customer",
    "description",
    "livemode",
    "amount_refunded",
    "billing_details_address_city",
    "outcome_risk_score",
    "payment_method_details_type",
    "payment_method_details_card_brand",
    "payment_method_details_card_three_d_secure_result",
    "payment_method_details_klarna_payment_method_category",
    "statement_descriptor_suffix",
]


def held(glob: str) -> dict:
    values = ", ".join(f"bit_xor(hash(id, {name})) as {name}" for name in COMPARED)
    found = duckdb.sql(f"""
        select count(*) as n_rows, count(distinct id) as n_ids, sum(amount) as sum_of_amount, {values}
        from read_parquet('{glob}', hive_partitioning = false)
    """)
    return dict(zip(found.columns, found.fetchone()))


if __name__ == "__main__":
    duckdb.execute("set timezone = 'UTC'")
    print(json.dumps(held(sys.argv[1]), default=str))
