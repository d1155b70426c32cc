"""Turns a JSON object, or the table row made from it, into its leaves, so that the two can be compared.

Equal means: the same leaf at the same path. A null, an absent member and an empty object are one and
the same; an empty list is not. Decimal columns are compared as numbers.
"""

import json
from decimal import Decimal, InvalidOperation

SYSTEM = {"_synced_at", "_deleted", "_extra"}
NOTHING = (None, {})


def parse(text):
    """JSON text with every digit of its numbers kept."""
    return json.loads(text, parse_float=Decimal)


def leaves(value, path=()):
    """Path -> scalar. A list's elements keep their place, also when they are empty."""
    if isinstance(value, dict):
        found = {}
        for key, member in value.items():
            found |= leaves(member, path + (key,))
        return found
    if isinstance(value, list):
        found = {} if value else {path: ()}
        for index, element in enumerate(value):
            found |= leaves(element, path + (index,)) or {path + (index,): None}
        return found
    return {} if value is None else {path: value}


def show(path):
    """A path as a reader writes it: $.items[0]."name with space"."""
    text = "$"
    for step in path:
        plain = isinstance(step, str) and step.replace("_", "a").isalnum()
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if plain else f".{json.dumps(step)}"
    return text


def differences(expected, rebuilt, decimals=frozenset()):
    """Lines that say which leaf differs and how; empty when the two objects are equal."""
    ours, theirs = leaves(rebuilt), leaves(expected)
    lines = []
    for path in sorted(ours.keys() | theirs.keys(), key=show):
        want, got = theirs.get(path), ours.get(path)
        if path not in ours and want is not None:
            lines.append(f"{show(path)}: expected {brief(want)}, the row has nothing")
        elif path not in theirs and got is not None:
            lines.append(f"{show(path)}: expected nothing, the row has {brief(got)}")
        elif not same(want, got, tuple(s for s in path if isinstance(s, str)) in decimals):
            lines.append(f"{show(path)}: expected {brief(want)}, the row has {brief(got)}")
    return lines


def brief(value):
    text = repr(value)
    return text if len(text) < 120 else f"{text[:100]}... ({len(text)} characters)"


def same(want, got, is_decimal):
    if is_decimal and isinstance(want, str) and isinstance(got, str):
        return want == got or number(want) is not None and number(want) == number(got)
    if isinstance(got, float) and isinstance(want, (int, Decimal)) and not isinstance(want, bool):
        return float(want) == got
    kinds = [(int, Decimal) if type(v) in (int, Decimal) else type(v) for v in (want, got)]
    return kinds[0] == kinds[1] and want == got


def number(text):
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def path_of(column):
    return tuple(column["path"].split(".")) if column["path"] else ()


def decimals_in(columns, parent=()):
    """The paths, without list positions, at which a decimal string stands."""
    found = set()
    for column in columns:
        path = parent + path_of(column)
        if column["type"] == "decimal":
            found.add(path)
        found |= decimals_in(column.get("fields") or [], path)
    return found


def from_row(row, columns):
    """The object that a row was made from. Raises when a leaf stands in two columns."""
    built = {}
    rest = []
    for column in columns:
        value = row[column["name"]]
        if column["name"] in SYSTEM or value is None:
            continue
        if column["type"] == "rest":
            rest.append((path_of(column), parse(value)))
        else:
            put(built, path_of(column), from_cell(value, column))
    for path, value in rest:
        put(built, path, value)
    if row.get("_extra") is not None:
        built = merge(built, parse(row["_extra"]), ())
    return built


def from_cell(value, column):
    """A value of a DuckDB row in the form that Stripe sent."""
    kind = column["type"]
    if kind == "timestamp":
        assert value % 1_000_000 == 0, f"{column['name']}: expected whole seconds, got {value} us"
        return value // 1_000_000
    if kind == "decimal":
        return format(value, "f")
    if kind in ("json", "rest"):
        return parse(value)
    if kind == "map":
        return dict(value) if isinstance(value, dict) else dict(zip(value["key"], value["value"]))
    if column.get("fields"):
        return [None if item is None else from_item(item, column["fields"]) for item in value]
    return value


def from_item(item, fields):
    built = {}
    for field in fields:
        if item[field["name"]] is not None:
            put(built, path_of(field), from_cell(item[field["name"]], field))
    return built


def put(built, path, value):
    """Merges a value into the object under construction, at a path."""
    for key in reversed(path):
        value = {key: value}
    built |= merge(built, value, ())


def merge(ours, theirs, path):
    """Both in one: objects member by member, lists place by place, an id with the object that it names."""
    if ours in NOTHING or theirs in NOTHING:
        return theirs if ours in NOTHING else ours
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [*ours, *(k for k in theirs if k not in ours)]
        return {k: merge(ours.get(k), theirs.get(k), path + (k,)) for k in keys}
    if isinstance(ours, list) and isinstance(theirs, list):
        longer = range(max(len(ours), len(theirs)))
        at = lambda values, i: values[i] if i < len(values) else None
        return [merge(at(ours, i), at(theirs, i), path + (i,)) for i in longer]
    if isinstance(ours, str) and isinstance(theirs, dict) and theirs.get("id") in (None, ours):
        return theirs | {"id": ours}
    raise AssertionError(
        f"{show(path)} stands in two columns: {brief(ours)} in a typed one, {brief(theirs)} in a JSON one"
    )


def compare(expected, rows, columns, ignore=()):
    """Fails with the first differing leaves unless the rows are exactly these objects.

    `ignore`: members that the table does not hold (embedded child lists), or adds (`livemode`).
    """
    __tracebackhide__ = True
    wanted = {o["id"]: o for o in expected}
    found = [row["id"] for row in rows]
    assert len(found) == len(set(found)), f"{len(found) - len(set(found))} ids stand in the table twice"
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    assert not missing and not extra, (
        f"expected {len(wanted)} objects, the table has {len(found)} rows; "
        f"missing {missing[:5]}, not expected {extra[:5]}"
    )
    decimals = decimals_in(columns)
    lines, n_wrong = [], 0
    for row in rows:
        want = wanted[row["id"]]
        try:
            found_here = differences(without(want, ignore), without(from_row(row, columns), ignore), decimals)
        except AssertionError as error:
            found_here = [str(error)]
        n_wrong += bool(found_here)
        lines += [f"{row['id']} {line}" for line in found_here]
    assert not lines, f"{n_wrong} of {len(rows)} rows differ in {len(lines)} leaves:\n" + "\n".join(lines[:12])


def without(value, members):
    return {k: v for k, v in value.items() if k not in members}
