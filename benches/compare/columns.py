"""Turns the columns of a table into the nested shape of its objects, for rivals that need it told."""

import json
from dataclasses import dataclass
from pathlib import Path

# Payment methods without columns of their own, as far as the fake account has them. Stripe has about 60.
OTHER_METHODS = ["cashapp", "ideal", "link", "paypal", "sepa_debit", "us_bank_account"]
UNION = "payment_method_details"

# One file's worth for everybody; the largest row group that stripelake writes.
ROW_GROUP = 262_144


@dataclass
class Column:
    name: str
    path: tuple[str, ...]
    kind: str


def read(path: Path) -> list[Column]:
    """What `stripelake schema charges --json` has printed."""
    columns = json.loads(path.read_text())["columns"]
    return [Column(c["name"], tuple(filter(None, c["path"].split("."))), c["type"]) for c in columns]


def tree(columns: list[Column]) -> dict:
    """Members by key: the kind of a value, or the members of an object."""
    root: dict = {}
    for column in columns:
        if not column.path:
            continue
        *parents, last = column.path
        node = root
        for key in parents:
            node = node.setdefault(key, {})
        if column.kind == "rest":
            node.setdefault(last, {}).update({method: "json" for method in OTHER_METHODS})
        else:
            node[last] = column.kind
    return root
