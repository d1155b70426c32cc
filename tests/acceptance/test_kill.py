"""Turns a first sync that dies at any moment into one that another run finishes, from where it was."""

import json
import signal
import subprocess
import time
import urllib.request

import pytest

import duck
import fake as fakes
import harness

CHARGES = 12_000
# Requests a second to one list: Stripe's limit.
RATE = 25


@pytest.fixture(scope="module")
def account():
    with fakes.Fake(charges=CHARGES, seed=11) as running:
        yield running


def asked(account):
    """Pages of charges that the account was asked for so far."""
    with urllib.request.urlopen(f"{account.url}/_fake/stats", timeout=10) as answer:
        return json.load(answer)["by_path"].get("/v1/charges", 0)


def killed(account, lake, env, n):
    """A sync that dies when `n` more pages were asked for."""
    command = [harness.binary(), "sync", "charges", "--lake", lake, "--api-base", account.url]
    command += ["--rate", "50", "--progress", "none", "--wait-lock", "60s"]
    before = asked(account)
    process = subprocess.Popen(
        list(map(str, command)),
        env=harness.environment(account.key, **env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 90
    while asked(account) < before + n and process.poll() is None:
        assert time.monotonic() < deadline, "too few pages were asked for"
        time.sleep(0.02)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL, "the run was over before it was killed"


@pytest.mark.parametrize("where", ["a folder", "S3"])
def test_a_run_that_is_killed_costs_what_was_in_flight(account, seaweed, tmp_path, where):
    is_remote = where == "S3"
    lake, env = ("s3://lake/killed", seaweed.env) if is_remote else (tmp_path / "killed", {})
    before = asked(account)
    # The lease of a dead run behind S3 has to expire, so that one is killed once.
    kills = [75] if is_remote else [50, 35]
    for n in kills:
        killed(account, lake, env, n)
    harness.sync(account, lake, "charges", "--wait-lock", "60s", key=account.key, env=env).expect(0)
    # What was read in the last two seconds, and pages that are not full: for each run the ends of its gaps.
    most = CHARGES / 100 + len(kills) * (2 * RATE + 12) + 12
    assert asked(account) - before <= most, f"{asked(account) - before} requests, expected at most {most}"
    with duck.connect(seaweed if is_remote else None) as con:
        duck.views(con, lake, ["charges"])
        counts = con.execute("select count(*), count(distinct id) from charges").fetchone()
    assert counts == (CHARGES, CHARGES)
    waiting = seaweed.list("killed/_stripelake/waiting") if is_remote else list(lake.rglob("*.arrows"))
    assert not waiting, f"left behind: {waiting}"
