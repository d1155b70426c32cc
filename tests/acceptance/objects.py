"""Turns a seed into Stripe objects, realistic ones and hostile ones, without any code of the program.

`shapes/*.txt` say which members an object has; the rest is here. The same seed gives the same objects.
A string "@number:1e400" stands for a JSON number written with exactly these characters.
"""

import copy
import json
import pathlib
import random
import re

import leaves

SHAPES = pathlib.Path(__file__).parent / "shapes"
NOW = 1_763_000_000
SPAN = 1000 * 86_400
SINGULAR = {
    "charges": "charge",
    "refunds": "refund",
    "balance_transactions": "balance_transaction",
    "customers": "customer",
    "prices": "price",
    "subscriptions": "subscription",
    "subscription_items": "subscription_item",
}
PREFIX = {
    "charges": "ch_3",
    "refunds": "re_3",
    "balance_transactions": "txn_3",
    "customers": "cus_",
    "prices": "price_1",
    "subscriptions": "sub_1",
    "subscription_items": "si_",
}
# Members whose object has one member per kind, and the member that says which kind it is.
UNIONS = {
    ("payment_method_details",): "type",
    ("payment_method_details", "card", "wallet"): "type",
    ("destination_details",): "type",
    ("payment_settings", "payment_method_options"): None,
}
# What the live API and older versions send beyond the public description.
LEGACY = {
    "charges": {"invoice": "in_1Old", "source": {"id": "card_1", "object": "card", "last4": "4242"}}
    | {"destination": None, "dispute": "du_1", "order": None},
    "subscriptions": {"current_period_start": NOW - 86_400, "current_period_end": NOW, "quantity": 3}
    | {"plan": {"id": "price_1", "object": "plan", "amount": 1000, "amount_decimal": "1000.5"}},
    "subscription_items": {"plan": {"id": "price_1", "object": "plan", "amount": 1000, "interval": "month"}},
    "prices": {"recurring": {"aggregate_usage": "sum", "trial_period_days": 14}},
    "customers": {"discount": {"coupon": {"id": "co_1", "object": "coupon", "percent_off": 12.5, "valid": True}}},
}
TEXTS = [
    *["Jenny Rosen", "usd", "succeeded", "visa", "US", "pi_3Nabc", "2026-11-23", "STRIPE TEST BANK"] * 3,
    *["", " ", "null", "0", "-1", "true", "{}", "[]", '{"a": 1}', "NaN", "1e400", "9223372036854775808"],
    *['"quoted"', "back\\slash", "line\nbreak\r\n", "tab\t", "\u0001\u001f\u007f", "\ufeffmark", "\u2028\u2029"],
    *["Zoë Müller", "Ελληνικά", "李小龍", "שלום", "👩‍👩‍👧‍👦 🇪🇺", "e\u0301 é", "\U0010ffff", "\ufffd\uffff", "\x1b[31mred"],
    *["../../etc/passwd", "' or 1=1 --", "<script>alert(1)</script>", "a" * 300],
]
KEYS = [
    *["later", "Later", "ID", "Amount", "with space", 'quo"te', "do.t", "a.b.c", "slash/key", "back\\slash", "$"],
    *["", "0", "ключ", "🔑", "line\nbreak", "'", "[0]", "_extra", "_synced_at", "_deleted", "x_other", "key", "value"],
    *["payment_method_details_other", "created_month", "billing_details_name", "null", "__proto__", "list", "data"],
]
INTS = [0, 1, -1, 50, 999, 1999, 123_456, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)]
DECIMALS = ["0", "1000", "12.5", "-0.5", "0.000000000001", "99999999999999999999999999.999999999999", "1000.00"]
TIMES = [0, 1, -1, NOW, NOW - 86_400, 2**31, 253_402_300_799, 253_402_300_800]
NUMBERS = ["1e400", "-0.0", "0.10", "1.7976931348623157e308", "9223372036854775808", "0.1234567890123456789012345"]
WRONG = {
    "text": [5, True, 1.5, {"a": 1}, ["x"], []],
    "ref": [5, False, [], ["x"], {"no_id": "x"}],
    "int": ["5", "", 1.5, True, {}, {"a": None, "b": 1}, [1], 2**63, -(2**63) - 1, "@number:1e400", "@number:10.0"],
    "float": ["1.5", True, [1.5], {"a": 1.5}],
    "bool": [0, 1, "true", "", [True], {"a": False}],
    "time": ["soon", "1763000000", True, 1.5, 2**63, -(2**63), [1], {"at": 1}],
    "decimal": [5, 12.5, "abc", "", "NaN", "0.0000000000001", "1" * 40, True, {"value": "1"}],
    "map": ["x", 5, [], ["x"], [{"key": "a"}], {"a": 5}, {"a": {"b": "c"}}, {"a": ["x"], "b": "fine"}],
    "map_int": ["x", 7],
    "map_object": ["x", 7],
    "empty": ["x", 7, [1]],
    "list_text": ["x", 5, {"a": 1}, [5], ["x", None, 5], [["x"]], [{"a": 1}]],
    "list_ref": ["x", {"a": 1}, [5], ["di_1", True]],
}


def shape(resource):
    """The members of a resource as nested dicts; a leaf is the word that says what it holds."""
    nested = {}
    for line in (SHAPES / f"{resource}.txt").read_text().splitlines():
        if not line.startswith("#"):
            path, kind = line.split()
            *parents, last = path.split(".")
            at = nested
            for step in parents:
                at = at.setdefault(step, {})
            at[last] = kind
    return nested


def generate(resource, count, seed=1, hostile=True):
    """`count` objects, newest first. Two of three are hostile unless told otherwise."""
    members = shape(resource)
    made = []
    for index in range(count):
        rng = random.Random(f"{seed} {resource} {index}")
        maker = Maker(resource, rng, index, hostile and index % 3 != 0)
        made.append(maker.make(members, created(index, count)))
    return made


def created(index, count):
    """Never increasing; now and then a handful of objects, or forty, share a second."""
    together = 40 if index % 400 < 40 else 3
    return NOW - (index // together) * together * (SPAN // count)


class Maker:
    """Makes one object: `rng` decides, `index` walks through the variants, `hostile` allows the odd."""

    def __init__(self, resource, rng, index, hostile):
        self.resource, self.rng, self.index, self.hostile = resource, rng, index, hostile

    def make(self, members, at):
        made = self.members(members, ())
        made |= {"object": SINGULAR[self.resource], "created": at}
        for key, value in LEGACY.get(self.resource, {}).items():
            if self.rng.random() < 0.3:
                value = copy.deepcopy(value)
                made[key] = leaves.merge(made[key], value, ()) if isinstance(made.get(key), dict) else value
        if "livemode" in members:
            made["livemode"] = False
        if self.hostile:
            self.spoil(made, members)
            self.add_unknown(made)
        made["id"] = f"{PREFIX[self.resource]}{self.index:06d}Hst{self.rng.randrange(10**9):09d}"
        if self.resource == "subscriptions":
            made["items"] = self.items(made, at)
        return {"id": made.pop("id"), "object": made.pop("object")} | made

    def items(self, subscription, at):
        """An embedded list of one to four items, of 11 to 24 now and then; the server cuts it at ten."""
        count = self.rng.randrange(11, 25) if self.index % 40 == 7 else self.rng.choice([1, 1, 1, 2, 4])
        made = []
        for place in range(count):
            item = Maker("subscription_items", self.rng, self.index * 100 + place, self.hostile)
            item = item.make(shape("subscription_items"), at + place)
            made.append(item | {"subscription": subscription["id"]})
        return {"object": "list", "data": made, "has_more": False, "url": "/v1/subscription_items"}

    def members(self, members, path):
        """An object with most of its members, some of them null."""
        made = {}
        for key in self.chosen(members, path):
            name = key.removesuffix("[]")
            chance = self.rng.random()
            if chance < 0.1 and path + (name,) not in UNIONS:
                continue
            if chance < 0.3 and path + (name,) not in UNIONS:
                made[name] = None
            elif key.endswith("[]"):
                made[name] = [self.members(members[key], path + (key,)) for _ in range(self.rng.choice([0, 1, 1, 3]))]
            elif isinstance(members[key], dict):
                made[name] = self.members(members[key], path + (name,))
            else:
                made[name] = self.leaf(members[key])
        if UNIONS.get(path):
            made[UNIONS[path]] = next((k for k in made if isinstance(made[k], dict)), "none")
        return made

    def chosen(self, members, path):
        """All members, but one variant (or three) of a union: the index walks through them in turn."""
        if path not in UNIONS:
            return list(members)
        variants = sorted(key for key in members if key not in ("type", "dynamic_last4"))
        if UNIONS[path] is None:
            return self.rng.sample(variants, 3)
        common = [key for key in variants if key in ("card", "klarna", "afterpay_clearpay", "affirm", "zip")]
        pool = common if common and self.index % 2 else variants
        return [key for key in members if key in ("dynamic_last4",)] + [pool[self.index // 2 % len(pool)]]

    def leaf(self, kind):
        """A value of the right type, from the plain to the extreme."""
        rng = self.rng
        if kind == "ref":
            return self.reference()
        if kind == "map":
            return {rng.choice(KEYS + ["order_id", "user_id"]): rng.choice(TEXTS) for _ in range(rng.choice([0, 1, 3]))}
        if kind == "map_int":
            return {currency: rng.choice(INTS) for currency in rng.sample(["usd", "eur", "jpy"], 2)}
        if kind == "map_object":
            return {"eur": {"unit_amount": rng.choice(INTS), "unit_amount_decimal": "0.10", "tiers": [{"up_to": None}]}}
        if kind == "empty":
            return {} if rng.random() < 0.5 else {"added_later": rng.choice(TEXTS)}
        if kind == "list_text":
            return [rng.choice(TEXTS) for _ in range(rng.choice([0, 1, 2]))]
        if kind == "list_ref":
            return [self.reference() for _ in range(rng.choice([0, 1, 2]))]
        if kind == "float":
            return rng.choice([0, 1, 12.5, 0.914387, -2.75, 1e-9, 20])
        if kind == "bool":
            return rng.random() < 0.5
        if kind == "text" and self.hostile and rng.random() < 0.001:
            return rng.choice(["a" * 5_000, "ß" * 70_000])
        if kind == "decimal" and self.hostile and rng.random() < 0.2:
            return rng.choice(["1.0000000000001", "0.0000000000005", "9" * 27, "twelve", ""])
        choices = {"text": TEXTS, "int": INTS, "decimal": DECIMALS, "time": TIMES}[kind]
        return rng.choice(choices if self.hostile else choices[:5])

    def reference(self):
        """An id, or the object that it names, as `expand[]` would send it."""
        name = f"obj_{self.rng.randrange(10**8)}"
        if not self.hostile or self.rng.random() > 0.1:
            return name
        if self.rng.random() < 0.3:
            return {"id": name, "object": "customer", "deleted": True}
        inner = {"amount": 2**63 - 1, "metadata": {"a.b": "c"}, "lines": [{"id": "il_1"}, None, {}]}
        return {"id": name, "object": "thing", "name": self.rng.choice(TEXTS), "nested": inner}

    def spoil(self, made, members):
        """Gives up to three members a value of a type that nobody promised."""
        for _ in range(self.rng.choice([0, 1, 1, 3])):
            at, shape_here = made, members
            while True:
                known = [k for k in at if k in shape_here and k not in ("id", "object", "created", "livemode")]
                if not known:
                    break
                key = self.rng.choice(sorted(known))
                if isinstance(shape_here[key], dict) and isinstance(at[key], dict) and self.rng.random() < 0.9:
                    at, shape_here = at[key], shape_here[key]
                    continue
                kind = shape_here[key]
                if at is not made or key != "subscription":
                    wrong = ["text instead", 7, [1]] if isinstance(kind, dict) else WRONG[kind]
                    at[key] = copy.deepcopy(self.rng.choice(wrong))
                break

    def add_unknown(self, made):
        """Adds members that no description knows, at several depths, also inside lists and maps of objects."""
        places = [made]
        for value in made.values():
            inner = value if isinstance(value, list) else [value]
            objects = [v for v in inner if isinstance(v, dict) and v and value is not made.get("metadata")]
            places += objects + [v for o in objects for v in o.values() if isinstance(v, dict) and v]
        for _ in range(self.rng.choice([0, 1, 2, 6])):
            place = self.rng.choice(places)
            place.setdefault(self.rng.choice(KEYS), self.unknown(self.rng.randrange(4)))

    def unknown(self, depth):
        rng = self.rng
        if depth == 0:
            numbers = [f"@number:{text}" for text in NUMBERS]
            return copy.copy(rng.choice([*TEXTS, *INTS, *numbers, True, False, None, 0.1, {}, []]))
        if rng.random() < 0.3:
            return [self.unknown(depth - 1) for _ in range(rng.choice([0, 1, 3]))]
        return {rng.choice(KEYS): self.unknown(depth - 1) for _ in range(rng.choice([1, 2]))}


def encode(value, indent=None, ascii_only=False):
    """JSON text; marked numbers are written with their own characters."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    return re.sub(r'"@number:([^"]+)"', r"\1", text)


def exact(value):
    """The value that a careful reader of `encode(value)` sees."""
    return leaves.parse(encode(value))


def items_of(subscriptions):
    return [item for subscription in subscriptions for item in subscription["items"]["data"]]
