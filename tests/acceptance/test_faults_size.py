"""Turns bombs, endless bodies and huge objects into whole lakes, within a bounded memory.

Rows of the fault list are named in brackets.
"""

import subprocess
import time

import pytest

import duck
import harness
import objects
import stub as stubs
from misbehaving import Misbehaving

MEBIBYTE = 1 << 20


def peak(server, key, lake, *args):
    """(exit code, most memory in MiB) of a sync."""
    base = ["sync", "--lake", str(lake), "--api-base", server.url, "--rate", "500", "--progress", "none"]
    process = subprocess.Popen(
        [harness.binary(), *base, *args],
        env=harness.environment(key),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=harness.HOME,
    )
    most, deadline = 0, time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            status = open(f"/proc/{process.pid}/status").read()
        except OSError:
            break
        high = [line for line in status.splitlines() if line.startswith("VmHWM")]
        most = max([most, *(int(line.split()[1]) for line in high)])
        time.sleep(0.02)
    if process.poll() is None:
        process.kill()
    return process.wait(10), most / 1024


@pytest.mark.parametrize("kind", ["bomb", "endless"])
def test_a_body_without_end_is_cut_off_and_memory_stays_flat(home, kind):
    """[N16] Every full page of every slice is one; smaller pages come."""
    with Misbehaving(charges=1_000) as server:
        code, usual = peak(server, server.key, home / f"{kind}-usual", "charges")
    assert code == 0
    fault = {"kind": kind, "megabytes": 300, "path": "/v1/charges", "query": {"limit": "100"}, "times": 12}
    with Misbehaving(fault, charges=1_000) as server:
        code, most = peak(server, server.key, home / kind, "charges")
        stats = server.stats()
    assert (code, stats["by_fault"].get(kind, 0) > 0) == (0, True), stats
    # Two bodies of 64 MiB may be held at once, each in a buffer of up to twice that.
    assert most < usual + 300, f"expected about {usual:.0f} MiB, saw {most:.0f}"


def charges_with(sizes):
    """Sixty charges, some of which have a description of so many MiB."""
    held = {name: objects.generate(name, 60, seed=9) for name in harness.LISTED}
    for number, size in enumerate(sizes):
        held["charges"][7 * (number + 1)]["description"] = "x" * (size * MEBIBYTE)
    return held


def described(lake):
    source = f"read_parquet({duck.quoted(duck.glob(lake, 'charges'))})"
    with duck.connect() as con:
        return con.execute(f"select count(*), max(length(description)) from {source}").fetchone()


def test_pages_of_huge_objects_are_made_smaller(home):
    """[P7] A page of all would be 84 MiB."""
    lake = home / "huge"
    with stubs.Stub(charges_with([14] * 6), gzipped=False) as stub:
        harness.sync(stub, lake, "charges", "--concurrency", "2").expect(0)
        limits = {int(dict(request["query"])["limit"]) for request in stub.asked("/v1/charges")}
    assert min(limits) < 100, limits
    assert described(lake) == (60, 14 * MEBIBYTE)


def test_an_object_that_no_page_can_hold_is_named_and_the_rest_is_kept(home):
    """[N16]"""
    lake, held = home / "too-huge", charges_with([66])
    with stubs.Stub(held, gzipped=False) as stub:
        outcome = harness.sync(stub, lake, "charges", "refunds").expect(3)
    outcome.expect_said(held["charges"][7]["id"], "at most 67108864 bytes", "_stripelake/rejected")
    assert described(lake)[0] == 59
    rejected = [path.read_text() for path in (lake / "_stripelake/rejected").rglob("*.ndjson")]
    assert len(rejected) == 1 and held["charges"][7]["id"] in rejected[0]
