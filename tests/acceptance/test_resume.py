"""Turns the real program, killed, stopped or out of budget, into a lake that is the account after all."""

import json
import signal
import socket
import subprocess
import time

import pytest

import duck
import harness
import objects
import stub as stubs

BASE = ["--progress", "none", "--concurrency", "4"]


def start(fake, lake, *args):
    """A sync in the background, at a rate at which it can be met on its way."""
    command = [harness.binary(), "sync", "--lake", lake, "--api-base", fake.url, "--rate", "40", *BASE, *args]
    return subprocess.Popen(
        list(map(str, command)),
        env=harness.environment(fake.key),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(api, lake, *args, key=None):
    """A sync to its end: its outcome and events."""
    outcome = harness.sync(api, lake, "--json", "--concurrency", "4", *args, key=key or api.key)
    return outcome, [json.loads(line) for line in outcome.out.splitlines()]


def requests(events):
    return events[-1]["requests"]


def continued(events):
    return [event["resource"] for event in events if event["event"] == "continued"]


def read(lake, table):
    """Id -> row, without the time of observation. Fails where an id stands twice."""
    with duck.connect() as con:
        source = f"read_parquet({duck.quoted(duck.glob(lake, table))}, hive_partitioning = false)"
        form = f"select t.id, to_json(t)::varchar from (select * exclude (_synced_at) from {source}) t"
        rows = con.execute(form).fetchall()
    ids = [row[0] for row in rows]
    assert len(ids) == len(set(ids)), f"{table}: an id stands twice"
    return {row[0]: row for row in rows}


@pytest.fixture(scope="module")
def total(fake, lake):
    """Requests of a whole run."""
    runs = sorted((lake / "_stripelake/runs").glob("*.json"))
    return json.loads(runs[0].read_text())["requests"]


def expect_the_same(lake, other):
    for table in harness.TABLES:
        assert read(lake, table) == read(other, table), f"{table} differs from the uninterrupted run"


def states(lake):
    return [json.loads(path.read_text()) for path in (lake / "_stripelake/state").glob("*.json")]


def wait_for_progress(lake, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if sum("progress" in state for state in states(lake)) >= 2:
            return
        time.sleep(0.05)
    raise AssertionError(f"no progress within {seconds} s; exit {process.poll()}")


def test_a_run_that_was_killed_is_continued(fake, lake, total, tmp_path):
    path = tmp_path / "killed"
    for _ in range(2):
        process = start(fake, path)
        try:
            wait_for_progress(path, process)
            time.sleep(0.4)
        finally:
            process.kill()
            process.communicate()
        files = [file for table in harness.TABLES for file in duck.files(path, table)]
        assert files, "nothing was kept"
        for file in files:
            read(path, file.stem)
    leftover = files[0].parent / ".stripelake-left.tmp"
    leftover.write_text("half a file")
    outcome, events = finish(fake, path)
    outcome.expect(0)
    assert continued(events), "nothing was continued"
    assert requests(events) < total, f"{requests(events)} requests, a whole run takes {total}"
    assert not list(path.rglob(".stripelake-*"))
    expect_the_same(path, lake)
    assert not [state for state in states(path) if "progress" in state]


def test_a_signal_ends_a_run_whose_bucket_does_not_answer(fake):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        aws = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "us-east-1",
        }
        command = [harness.binary(), "sync", "--lake", "s3://bucket/lake", "--api-base", fake.url, *BASE]
        process = subprocess.Popen(
            list(map(str, command)), env=harness.environment(fake.key) | aws, stderr=subprocess.PIPE, text=True
        )
        try:
            time.sleep(1)
            sent = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=15)
        finally:
            process.kill()
        assert process.returncode == 143, said
        assert time.monotonic() - sent < 11, said


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_what_was_read(fake, lake, total, tmp_path, number, code):
    path = tmp_path / "stopped"
    process = start(fake, path)
    time.sleep(1.5)
    sent = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code, said.decode()
    assert time.monotonic() - sent < 11
    assert b"it continues" in said, said.decode()
    outcome, events = finish(fake, path)
    outcome.expect(0)
    assert len(continued(events)) >= 3 and requests(events) < total
    expect_the_same(path, lake)


def test_runs_with_few_requests_come_to_the_end(fake, lake, total, tmp_path):
    path = tmp_path / "requests"
    codes = []
    while not codes or codes[-1] == 9:
        outcome, events = finish(fake, path, "--max-requests", 40)
        codes.append(outcome.expect(0, 9).code)
        assert requests(events) <= 40
        assert len(codes) < 30, "the runs come to no end"
        if codes[-1] == 9:
            outcome.expect_said("--max-requests of 40", "charges", "the same command again")
            record = sorted((path / "_stripelake/runs").glob("*.json"))[-1]
            assert json.loads(record.read_text())["exit_code"] == 9
    assert len(codes) > 2 and codes[-1] == 0
    expect_the_same(path, lake)


def test_the_server_sees_no_request_more_than_allowed(tmp_path):
    held = {name: objects.generate(name, 250, seed=3) for name in harness.LISTED}
    path = tmp_path / "stub"
    with stubs.Stub(held) as stub:
        for n in range(20):
            before = len(stub.log)
            outcome, events = finish(stub, path, "--max-requests", 12, key=harness.KEY)
            assert len(stub.log) - before == requests(events) <= 12
            if outcome.expect(0, 9).code == 0:
                break
        assert outcome.code == 0 and n > 0
        assert not stub.violations, f"Stripe would refuse these requests: {stub.violations[:5]}"
    for table in harness.LISTED:
        assert read(path, table).keys() == {held_object["id"] for held_object in held[table]}


def test_runs_with_little_time_come_to_the_end(fake, lake, tmp_path):
    path = tmp_path / "time"
    for n in range(60):
        outcome = harness.sync(fake, path, key=fake.key, env={"STRIPELAKE_MAX_DURATION": "250ms"})
        if outcome.expect(0, 9).code == 0:
            break
        outcome.expect_said("--max-duration of 0.25 s")
    assert outcome.code == 0 and n > 0
    expect_the_same(path, lake)


def test_budgets_that_make_no_sense_are_refused(fake, tmp_path):
    for flags in (["--max-requests", "3"], ["--max-requests", "some"], ["--max-duration", "soon"]):
        outcome = harness.sync(fake, tmp_path / "none", *flags, key=fake.key)
        outcome.expect(2).expect_said(flags[0])
    assert not (tmp_path / "none").exists()
