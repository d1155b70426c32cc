"""Turns files of list pages and NDJSON into a lake without any network, leaf by leaf."""

import fcntl
import gzip
import json
import os
import random
import subprocess

import pytest

import duck
import harness
import leaves
import objects
import stub as stubs

COUNTS = {name: 500 for name in harness.LISTED} | {"charges": 2_000}


def ndjson(values):
    """One object a line; every other line in pure ASCII."""
    return "".join(objects.encode(o, ascii_only=i % 2 == 0) + "\n" for i, o in enumerate(values))


def pages(values, size=100):
    """Pretty-printed list pages, one document after another, as saved answers are."""
    cuts = range(0, len(values), size)
    page = lambda at: {"object": "list", "data": values[at : at + size], "has_more": at + size < len(values)}
    return "\n".join(objects.encode(page(at) | {"url": "/v1/x"}, indent=2) for at in cuts)


def imported(resource, lake, *files, **options):
    return harness.run("import", resource, *files, "--lake", lake, key=None, **options)


def table_rows(lake, table):
    columns = harness.schema(table)
    with duck.connect() as con:
        return duck.rows(con, f"read_parquet({duck.quoted(duck.glob(lake, table))})", columns), columns


def expect_equal(lake, table, expected):
    rows, columns = table_rows(lake, table)
    added = {"livemode"} if "livemode" not in expected[0] else set()
    leaves.compare([objects.exact(o) for o in expected], rows, columns, ignore=added | {"items"})


@pytest.fixture(scope="module")
def held():
    return {name: objects.generate(name, n, seed=11) for name, n in COUNTS.items()}


@pytest.fixture(scope="module")
def lake(held, home):
    """One lake, filled from one NDJSON file per resource."""
    path = home / "imported"
    # Balance transactions do not say of which mode they are: that of the lake, which the first charges tell.
    for resource, values in sorted(held.items(), key=lambda item: item[0] != "charges"):
        file = home / f"{resource}.ndjson"
        file.write_text(ndjson(values))
        imported(resource, path, file).expect(0)
    return path


@pytest.mark.parametrize("table", harness.TABLES)
def test_every_leaf_of_an_imported_file_can_be_queried(lake, held, table):
    items = table == "subscription_items"
    expect_equal(lake, table, objects.items_of(held["subscriptions"]) if items else held[table])


@pytest.mark.parametrize("resource", harness.LISTED)
def test_the_same_file_again_changes_no_file(lake, home, resource):
    before = harness.tree(lake, "**/*.parquet")
    imported(resource, lake, home / f"{resource}.ndjson").expect(0)
    assert before and not harness.changes(before, harness.tree(lake, "**/*.parquet"))


@pytest.mark.parametrize("form", ["ndjson", "ndjson.gz", "pages", "pages.gz", "stdin", "two files", "byte order mark", "array", "pages in an array"])
def test_each_form_of_input_gives_the_same_rows(home, form):
    values = objects.generate("refunds", 230, seed=9)
    path, file = home / f"form-{form.replace(' ', '-')}", home / f"form.{form.replace(' ', '-')}"
    text = pages(values) if form.startswith("pages") else ndjson(values)
    if form == "array":
        text = "[" + text.strip().replace("\n", ",\n") + "]\n"
    elif form == "pages in an array":
        text = "[" + text.replace("\n}\n{", "\n},\n{") + "]"
    text = text.encode()
    text = b"\xef\xbb\xbf" * (form == "byte order mark") + text
    file.write_bytes(gzip.compress(text) if form.endswith(".gz") else text)
    if form == "stdin":
        imported("refunds", path, "-", stdin=text).expect(0)
    elif form == "two files":
        more = home / "form.more"
        file.write_text(ndjson(values[:100]))
        more.write_text(pages(values[100:], size=30))
        imported("refunds", path, file, more).expect(0)
    else:
        imported("refunds", path, file).expect(0)
    expect_equal(path, "refunds", values)


def test_a_single_object_is_a_file_too(home):
    value = objects.generate("customers", 1, seed=4, hostile=False)
    (home / "one.json").write_text(objects.encode(value[0], indent=2))
    imported("customers", home / "one", home / "one.json").expect(0)
    expect_equal(home / "one", "customers", value)


def test_the_published_samples_leave_nothing_in_extra(samples, home):
    lake = home / "samples"
    for resource in harness.LISTED:
        file = samples / f"{objects.SINGULAR[resource]}.json"
        imported(resource, lake, file).expect(0)
        expect_equal(lake, resource, [json.loads(file.read_text())])
    for table in harness.TABLES:
        rows, _ = table_rows(lake, table)
        assert len(rows) == 1, f"{table}: expected one row, got {len(rows)}"
        assert rows[0]["_extra"] is None, f"{table}: members without a column: {rows[0]['_extra']}"


def test_a_newer_form_of_an_object_replaces_the_older_one(home):
    lake = home / "newer"
    old = objects.generate("customers", 50, seed=6, hostile=False)
    new = [o | {"name": "renamed"} for o in old[:10]]
    for name, values in (("old", old), ("new", new)):
        (home / f"{name}.ndjson").write_text(ndjson(values))
        imported("customers", lake, home / f"{name}.ndjson").expect(0)
    expect_equal(lake, "customers", new + old[10:])


def test_lines_and_arrays_may_stand_in_any_order(home):
    values = objects.generate("charges", 60, seed=11, hostile=False)
    lines = ndjson(values).splitlines()
    # What cat makes of three files.
    text = "\n".join([*lines[:20], f"[{', '.join(lines[20:40])}]", *lines[40:]]) + "\n"
    (home / "mixed.json").write_text(text)
    imported("charges", home / "mixed", home / "mixed.json").expect(0)
    expect_equal(home / "mixed", "charges", values)


def broken_files(home):
    """Name -> (file, words that the message should hold)."""
    good = ndjson(objects.generate("charges", 60, seed=8, hostile=False))
    line = " ".join(pages(objects.generate("charges", 20, seed=9, hostile=False)).split("\n"))
    texts = {
        "comma-between": (f"{line}{line} , {line}\n{line}\n", "comma-between"),
        "cut-behind-others": (f"{line}{line}{line[:-300]}\n{line}\n", "cut-behind-others"),
        "cut-array": (f"[{good.strip().replace(chr(10), ',' + chr(10))}", "array"),
        "array-in-array": (f"{good}[[{good.splitlines()[0]}]]\n{good}", "array-in-array"),
        "not-json": ("this is a letter, not JSON\n", "not-json"),
        "html": ("<!DOCTYPE html><html></html>", "html"),
        "another-resource": (ndjson(objects.generate("refunds", 5, hostile=False)), "refund"),
        "truncated": (good[: len(good) - 300], "truncated"),
        "truncated-page": (pages(objects.generate("charges", 60, hostile=False))[:-200], "truncated-page"),
        "broken-line": (good + "{broken\n" + good, "61"),
        "scalar": ("42\n", "scalar"),
        "empty": ("\n", "empty file"),
        "error-answer": ('{"error": {"type": "invalid_request_error", "message": "no"}}', "error"),
    }
    for name, (text, word) in texts.items():
        file = home / f"{name}.json"
        file.write_text(text)
        yield name, (file, word)
    cut = home / "cut.ndjson.gz"
    cut.write_bytes(gzip.compress(good.encode())[:-20])
    yield "cut-gzip", (cut, "cut.ndjson.gz")
    yield "missing", (home / "no-such-file.ndjson", "no-such-file")


@pytest.mark.parametrize("name", [*"not-json html another-resource truncated truncated-page".split()]
    + ["comma-between", "cut-behind-others", "array-in-array", "cut-array"]
    + ["broken-line", "scalar", "empty", "error-answer", "cut-gzip", "missing"])  # fmt: skip
def test_a_file_that_cannot_be_read_whole_changes_nothing(home, name):
    file, word = dict(broken_files(home))[name]
    lake, fresh = home / f"kept-{name}", home / f"fresh-{name}"
    (home / "kept.ndjson").write_text(ndjson(objects.generate("charges", 30, seed=1, hostile=False)))
    imported("charges", lake, home / "kept.ndjson").expect(0)
    before = harness.tree(lake)
    outcome = imported("charges", lake, file).expect(2).expect_said(word, file.name)
    assert not harness.changes(before, harness.tree(lake)), f"the lake changed\n{outcome}"
    imported("charges", fresh, file).expect(2)
    assert harness.tree(fresh) == {}, f"a refused import left files behind: {sorted(harness.tree(fresh))}"


def test_a_file_of_nothing_but_objects_that_cannot_be_rows_keeps_them(home):
    values = objects.generate("charges", 3, seed=5, hostile=False)
    for value in values:
        value["created"] = "soon"
    file, lake = home / "no-row.ndjson", home / "no-row"
    file.write_text(ndjson(values))
    imported("charges", lake, file).expect(3).expect_said("3 objects", "_stripelake/rejected")
    kept = [json.loads(line) for path in lake.glob("_stripelake/rejected/*/*") for line in path.open()]
    assert sorted(json.loads(line["text"])["id"] for line in kept) == sorted(value["id"] for value in values)
    end = json.loads(imported("charges", lake, file, "--json").expect(3).out.splitlines()[-1])
    [failure] = end["failures"]
    assert failure["resource"] == "charges" and "created" in failure["error"] and failure["fix"], failure


def test_an_unknown_resource_is_refused_with_the_near_one(home):
    (home / "x.ndjson").write_text("{}\n")
    imported("charge", home / "unknown", home / "x.ndjson").expect(2).expect_said("charges")
    assert not (home / "unknown").exists()


def subscription(items, **more):
    """One subscription with these item ids, as an archive holds it."""
    data = [{"id": i, "object": "subscription_item", "created": 1679609768} for i in items]
    listed = {"object": "list", "data": data, "has_more": False, "url": "/v1/subscription_items"}
    return {"id": "sub_1", "object": "subscription", "created": 1679609767, "items": listed} | more


def test_an_old_archive_takes_no_item_of_a_subscription_back_in_time(home):
    lake = home / "items-in-time"
    late, early, bare = home / "late.json", home / "early.json", home / "bare.json"
    late.write_text(json.dumps(subscription(["si_1", "si_2"])))
    early.write_text(json.dumps(subscription(["si_0"])))
    without = subscription([])
    del without["items"]
    bare.write_text(json.dumps(without))
    held = f"select id from read_parquet('{lake}/subscription_items/**/*.parquet') order by id"
    times = [(late, "2026-09-30"), (early, "2026-09-22"), (bare, "2026-10-01")]
    for path, observed_at in times:
        harness.run("import", "subscriptions", path, "--lake", lake, "--observed-at", observed_at).expect(0)
        with duck.connect() as con:
            assert con.execute(held).fetchall() == [("si_1",), ("si_2",)], path.name


def held_items(lake):
    """The parent of each item in the lake."""
    with duck.connect() as con:
        rows = con.execute(f"select id, subscription from read_parquet({duck.quoted(duck.glob(lake, 'subscription_items'))})")
        return dict(rows.fetchall())


@pytest.mark.parametrize("seed", range(12))
def test_of_a_subscription_that_comes_often_the_items_of_the_last_form_stay(home, seed):
    """In files of any order, one after the other in one file, and in one block with itself."""
    chance = random.Random(seed)
    subscriptions = [f"sub_{n}" for n in range(chance.randint(1, 6))]
    last, files = {}, []
    for day in range(1, chance.randint(2, 4)):
        forms = []
        # More lists of one than wait side by side, too.
        for _ in range(chance.choice([5, 30, 200])):
            name = chance.choice(subscriptions)
            share = chance.choice([0, 0.5])
            items = {f"si_{name}_{n}" for n in range(5) if chance.random() < share}
            status = chance.choice(["active", "past_due"])
            held = [i | {"subscription": name, "livemode": False} for i in subscription(sorted(items))["items"]["data"]]
            form = subscription([], id=name, status=status, livemode=False)
            forms.append(form | {"items": form["items"] | {"data": held}})
            last[name] = (items, status)
        path = home / f"often-{seed}-{day}.ndjson"
        path.write_text("".join(json.dumps(form) + "\n" for form in forms))
        os.utime(path, (1_790_000_000 + day * 86_400,) * 2)
        files.append(path)
    lake = home / f"often-{seed}"
    chance.shuffle(files)
    imported("subscriptions", lake, *files).expect(0)
    expected = {item: name for name, (items, _) in last.items() for item in items}
    assert held_items(lake) == expected, f"seed {seed}"
    rows, _ = table_rows(lake, "subscriptions")
    assert {row["id"]: row["status"] for row in rows} == {name: status for name, (_, status) in last.items()}
    before = harness.tree(lake, "**/*.parquet")
    imported("subscriptions", lake, *reversed(files)).expect(0)
    assert not harness.changes(before, harness.tree(lake, "**/*.parquet"))


@pytest.mark.parametrize("times", [2, 9, 20])
def test_of_a_subscription_without_items_at_last_none_stay(home, times):
    path, lake = home / f"none-{times}.json", home / f"none-{times}"
    forms = [subscription([f"si_{n}"], livemode=False) for n in range(times - 1)] + [subscription([], livemode=False)]
    path.write_text("\n".join(map(json.dumps, forms)))
    imported("subscriptions", lake, path).expect(0)
    assert held_items(lake) == {}


def test_an_item_that_was_seen_later_stays_though_its_subscription_did_not_change(home):
    lake = home / "later-item"
    for items, day, expected in [("a", 1, "a"), ("ab", 3, "ab"), ("a", 2, "ab"), ("b", 4, "b")]:
        path = home / "later-item.json"
        path.write_text(json.dumps(subscription([f"si_{item}" for item in items])))
        harness.run("import", "subscriptions", path, "--lake", lake, "--observed-at", f"2026-09-0{day}").expect(0)
        assert sorted(held_items(lake)) == [f"si_{item}" for item in expected], day


def test_an_archive_with_the_first_part_of_a_list_is_not_complete(home):
    path = home / "part.json"
    part = subscription(["si_1"])
    part["items"]["has_more"] = True
    path.write_text(json.dumps(part))
    outcome = harness.run("import", "subscriptions", path, "--lake", home / "part").expect(3)
    outcome.expect_said("first part")


def test_a_lake_takes_the_mode_of_its_first_objects(home):
    lake, file = home / "live", home / "live.ndjson"
    values = [o | {"livemode": True} for o in objects.generate("charges", 20, seed=3, hostile=False)]
    file.write_text(ndjson(values))
    imported("charges", lake, file).expect(0)
    with stubs.Stub({"charges": objects.generate("charges", 20, seed=4, hostile=False)}) as stub:
        harness.sync(stub, lake, "charges").expect(4).expect_said("live", "test", "--lake")
    (home / "test.ndjson").write_text(ndjson([o | {"livemode": False} for o in values]))
    imported("charges", lake, home / "test.ndjson").expect(4)
    expect_equal(lake, "charges", values)


def test_live_and_test_objects_in_one_import_are_refused(home):
    lake, values = home / "both", objects.generate("charges", 20, seed=3, hostile=False)
    files = []
    for livemode in (True, False):
        files.append(home / f"both-{livemode}.ndjson")
        files[-1].write_text(ndjson([o | {"livemode": livemode} for o in values[livemode::2]]))
    imported("charges", lake, *files).expect(4).expect_said("live", "test", "nothing was imported")
    assert harness.tree(lake, "**/*.parquet") == {}


@pytest.mark.parametrize("is_pretty", [False, True])
def test_the_line_of_an_object_that_does_not_belong_is_told(home, is_pretty):
    lake = home / f"lines{is_pretty}"
    values = objects.generate("charges", 700, seed=3, hostile=False)
    lines_of = [objects.encode(value) for value in values]
    if is_pretty:
        lines_of = [json.dumps(value, indent=2) for value in values]
    for name, told, change in [
        ("mode", f"{values[501]['id']} has livemode true", {"livemode": True}),
        ("object", 'got "refund"', {"object": "refund"}),
        ("both", "has livemode true, the lake has false", {"livemode": True}),
    ]:
        file = home / f"{name}.ndjson"
        lines = list(lines_of)
        lines[501] = json.dumps(values[501] | change, indent=2 if is_pretty else None)
        file.write_text("\n".join(lines) + "\n")
        line = 1 + sum(line.count("\n") + 1 for line in lines[:501])
        outcome = imported("charges", lake, file)
        outcome.expect(2 if name == "object" else 4).expect_said(f"line {line}: ", told)
        file.write_text("\n".join(lines_of[:3]) + "\n")
        imported("charges", lake, file).expect(0)


def test_a_file_over_the_limit_on_files_exits_6(home):
    """The signal that such a write raises would end the process without a word."""
    lake, file = home / "limited", home / "large.ndjson"
    file.write_text(ndjson(objects.generate("charges", 700, seed=3, hostile=False)))
    script = 'ulimit -f 60 && exec "$0" "$@"'
    command = ["sh", "-c", script, harness.binary(), "import", "charges", file, "--lake", lake]
    outcome = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 6, outcome
    assert "too large" in outcome.stderr and "fix:  " in outcome.stderr and "ulimit -f" in outcome.stderr, outcome
    assert harness.tree(lake, "**/*.parquet") == {}, outcome
    imported("charges", lake, file).expect(0)


def test_a_lake_that_another_process_writes_exits_11_and_says_which(home):
    """[C1]"""
    lake, file = home / "locked", home / "locked.ndjson"
    file.write_text(ndjson(objects.generate("customers", 3, seed=3, hostile=False)))
    imported("customers", lake, file).expect(0)
    lock = lake / "_stripelake" / "lock"
    holder = lock.read_text().strip()
    assert holder.startswith("process ") and ", run 20" in holder
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        imported("customers", lake, file).expect(11).expect_said(holder, "--wait-lock")
    imported("customers", lake, file).expect(0)


def test_a_file_on_stdin_is_as_old_as_it_is(tmp_path):
    lake, old, new = tmp_path / "lake", tmp_path / "old.ndjson", tmp_path / "new.ndjson"
    for path, status, day in ((old, "pending", 1), (new, "succeeded", 2)):
        path.write_text(json.dumps({"id": "re_1", "object": "refund", "created": 1790000000, "status": status}) + "\n")
        os.utime(path, (1790000000 + day * 86400,) * 2)
    query = f"select status from '{duck.glob(lake, 'refunds')}'"
    status = lambda: duck.connect().execute(query).fetchall()
    for path in (new, old):
        with path.open() as stdin:
            command = [harness.binary(), "import", "refunds", "-", "--lake", str(lake)]
            subprocess.run(command, stdin=stdin, env=harness.environment(None), check=True, timeout=60)
    assert status() == [("succeeded",)]
    # What comes through a pipe counts as read now.
    harness.run("import", "refunds", "-", "--lake", lake, stdin=old.read_text()).expect(0)
    assert status() == [("pending",)]
