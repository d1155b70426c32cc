"""Turns the charges of an account into Parquet with Stripe's Python SDK and pandas: `rival_sdk.py URL KEY OUT`."""

import json
import sys
from pathlib import Path

import pandas
import stripe


def text(value):
    """Lists and objects without members as JSON: Parquet has no type for the empty ones."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def main() -> None:
    url, key, out = sys.argv[1:]
    client = stripe.StripeClient(key, base_addresses={"api": url})
    charges = client.v1.charges.list({"limit": 100}).auto_paging_iter()
    frame = pandas.json_normalize([charge.to_dict() for charge in charges], sep="_")
    for name in frame.columns[frame.dtypes == object]:
        frame[name] = frame[name].map(text)
    frame.to_parquet(Path(out) / "charges.parquet", compression="zstd")


if __name__ == "__main__":
    main()
