"""Turns runs that end, or fail, at any step that they take on the disk into lakes that equal the account.

Every eighth step is tried; `STRIPELAKE_EVERY=1` tries all of them.
"""

import copy
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

import duck
import harness
import objects
import stub

EVERY = int(os.environ.get("STRIPELAKE_EVERY", "8"))
# Fewer would mean that steps go unseen.
FEWEST_STEPS = 50
# A customer that vanishes keeps a row; a subscription and its items stand in two files.
LISTS = ["customers", "subscriptions"]
COMPARED = {"customers": "email", "subscriptions": "status", "subscription_items": "quantity"}
FAILURES = {"kill": "kill", "full": errno.ENOSPC, "broken": errno.EIO, "denied": errno.EACCES}
CODES = {"kill": -signal.SIGKILL, "full": 6, "broken": 6, "denied": 6}


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    """The library that counts steps."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("steps are counted on Linux, by a library that a C compiler makes")
    library = tmp_path_factory.mktemp("step") / "step.so"
    source = pathlib.Path(__file__).parent / "step.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    return library


def account(is_changed):
    """Two years of subscriptions and customers, before or after changes of every kind."""
    now = int(time.time()) // 86_400 * 86_400
    lists = {name: objects.generate(name, 24, hostile=False) for name in LISTS}
    for made in lists.values():
        for n, row in enumerate(made):
            row["created"] = now - n * 30 * 86_400
    customers, subscriptions = lists["customers"], lists["subscriptions"]
    if is_changed:
        customers.insert(0, copy.deepcopy(customers[0]) | {"id": "cus_new", "created": now + 60})
        customers[6]["email"] = customers[22]["email"] = "new@example.com"
        del customers[20], customers[4]
        subscriptions[2]["status"] = subscriptions[21]["status"] = "canceled"
        subscriptions[2]["items"]["data"].pop()
        # It has more items than a page of subscriptions shows.
        subscriptions[7]["items"]["data"][-1]["quantity"] = 77
    return lists


class Case:
    """A lake as it was, the account that it has to become equal to, and the command that is disturbed."""

    def __init__(self, name, server, folder, library):
        self.lake, self.folder, self.library = folder / "lake", folder, library
        self.sync = ["sync", *LISTS, "--api-base", server.url, "--rate", "500", "--progress", "none"]
        self.was = None
        if name != "a first sync":
            self.was = folder / "was"
            harness.run(*self.sync, "--lake", self.was).expect(0)
        tables = account(is_changed=self.was is not None)
        server.tables |= tables | {"subscription_items": objects.items_of(tables["subscriptions"])}
        self.tables = server.tables
        self.command = self.sync
        if name == "an import":
            archive = folder / "subscriptions.ndjson"
            archive.write_text("".join(objects.encode(row) + "\n" for row in tables["subscriptions"]))
            self.command = ["import", "subscriptions", archive, "--progress", "none"]

    def begin(self):
        shutil.rmtree(self.lake, ignore_errors=True)
        if self.was:
            shutil.copytree(self.was, self.lake)

    def disturbed(self, at=0, what="", *, is_lasting=False):
        """The outcome of the command, and the steps that it took."""
        log = self.folder / "steps"
        log.unlink(missing_ok=True)
        env = {"LD_PRELOAD": str(self.library), "STEP_BELOW": str(self.lake), "STEP_LOG": str(log)}
        env |= {"STEP_AT": str(at), "STEP_DO": str(what)} | ({"STEP_ALWAYS": "1"} if is_lasting else {})
        outcome = harness.run(*self.command, "--lake", self.lake, env=env)
        steps = [line.split(" ", 2) for line in log.read_text().splitlines()] if log.exists() else []
        return outcome, steps

    def rows(self):
        """Table -> id -> what is compared, and whether it is deleted. Each file can be read, and no id stands twice."""
        found = {}
        with duck.connect() as con:
            for table, column in COMPARED.items():
                source = f"read_parquet({duck.quoted(duck.glob(self.lake, table))})"
                query = f"select id, {column}, _deleted, bit_xor(hash(t)) from {source} t group by all"
                rows = con.execute(query).fetchall() if duck.files(self.lake, table) else []
                found[table] = {id: (value, is_deleted) for id, value, is_deleted, _ in rows}
                assert len(found[table]) == len(rows), f"{table}: {len(rows)} rows, {len(found[table])} ids"
        return found

    def check_is_the_account(self):
        found = self.rows()
        for table, column in COMPARED.items():
            kept = {id: value for id, (value, is_deleted) in found[table].items() if not is_deleted}
            assert kept == {row["id"]: row.get(column) for row in self.tables[table]}, table
        if self.was:
            assert sum(is_deleted for _, is_deleted in found["customers"].values()) == 2
        left = [path for path in self.lake.rglob("*") if path.name.startswith(".stripelake-") or path.suffix == ".arrows"]
        assert not left, f"left behind: {left}"


@pytest.fixture(params=["a first sync", "a later sync", "an import"])
def case(request, tmp_path, step):
    with stub.Stub(account(is_changed=False)) as server:
        yield Case(request.param, server, tmp_path, step)


@pytest.mark.parametrize("failure", FAILURES)
def test_s6_a_run_may_end_or_fail_at_any_step(case, failure):
    case.begin()
    undisturbed, steps = case.disturbed()
    undisturbed.expect(0)
    kinds = {kind for _, kind, _ in steps}
    assert len(steps) >= FEWEST_STEPS and kinds >= {"make", "mkdir", "write", "sync"}, steps
    # Each failure has steps of its own.
    first, codes = 1 + list(FAILURES).index(failure) % EVERY, []
    for at in range(first, len(steps) + 1, EVERY):
        case.begin()
        outcome, taken = case.disturbed(at, FAILURES[failure], is_lasting=failure == "full")
        try:
            # The steps of two runs differ a little, by what happens at the same time; and not all of them matter.
            codes.append(outcome.expect(0, CODES[failure]).code)
            case.rows()
            if at % 3 == 0:
                case.disturbed(at // 2 + 1, FAILURES[failure])
                case.rows()
            # Of a sync, 0 has to mean that it is complete.
            if outcome.code != 0 or at % 3 == 0 or case.command is not case.sync:
                harness.run(*case.sync, "--lake", case.lake).expect(0)
            case.check_is_the_account()
        except (AssertionError, duck.duckdb.Error) as error:
            raise AssertionError(f"{failure} at step {at}, {taken[-3:]}\n{outcome}") from error
    assert codes.count(CODES[failure]) >= len(codes) * 3 / 4, codes
