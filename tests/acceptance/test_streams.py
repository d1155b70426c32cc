"""Turns a stdout or stderr that takes nothing, and signals, into runs that end as they should all the same."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

import fake as fakes
import harness

LIVE = harness.KEY.replace("_test_", "_live_")


@pytest.fixture
def full():
    """A file on a full disk."""
    with open("/dev/full", "wb") as file:
        yield file


@pytest.fixture
def stuck():
    """The end of a pipe that is full and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    yield writing
    os.close(writing)
    os.close(reading)


def start(*args, key=harness.KEY, env=None, **streams):
    return subprocess.Popen(
        [harness.binary(), *map(str, args)],
        env=harness.environment(key) | (env or {}),
        cwd=harness.HOME,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | streams,
    )


def ended(process, timeout=60):
    """The exit code; a program that does not end is killed, and fails the test."""
    try:
        return process.wait(timeout)
    finally:
        process.kill()


def sync(api, lake, *args, rate=500, **options):
    base = ["sync", "--lake", lake, "--api-base", api.url, "--rate", rate, "--progress", "plain"]
    return start(*base, *args, **{"key": api.key} | options)


def sync_of_a_silent_bucket(api, silent, **options):
    """A run that a signal cannot end before its time is up."""
    port = silent.getsockname()[1]
    aws = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    aws |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    return sync(api, "s3://bucket/lake", env=aws, **options)


def begun(lake, timeout=30):
    """Waits until a run is at work on the lake."""
    deadline = time.monotonic() + timeout
    while not (lake / "_stripelake/waiting").exists():
        assert time.monotonic() < deadline, "the run has not begun"
        time.sleep(0.05)


def test_what_cannot_be_said_on_stderr_changes_no_exit_code(fake, lake, tmp_path, full):
    assert ended(sync(fake, tmp_path / "lake", "prices", stderr=full)) == 0
    shutil.copytree(lake, tmp_path / "of-test-mode")
    assert ended(sync(fake, tmp_path / "of-test-mode", key=LIVE, stderr=full)) == 4
    assert ended(start("sync", "no-such-resource", stderr=full)) == 2


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_counts_where_stderr_cannot_be_written(fake, tmp_path, full, number, code):
    process = sync(fake, tmp_path / "lake", rate=4, stderr=full)
    begun(tmp_path / "lake")
    process.send_signal(number)
    assert ended(process, timeout=10) == code


def test_a_signal_counts_where_nobody_reads_what_is_said(fake, tmp_path, stuck):
    process = sync(fake, tmp_path / "lake", rate=4, stderr=stuck)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert ended(process, timeout=12) == 143


@pytest.mark.parametrize("takes_words", [True, False], ids=["stderr", "stuck stderr"])
def test_a_second_signal_ends_a_run_at_once(fake, stuck, takes_words):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = sync_of_a_silent_bucket(fake, silent, stderr=subprocess.DEVNULL if takes_words else stuck)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None, "expected the bucket to hold the run"
        process.send_signal(signal.SIGINT)
        assert ended(process, timeout=2) == 130


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_that_waits_for_the_account_at_once(tmp_path, number, code):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        args = ["sync", "--lake", tmp_path / "lake", "--api-base", url, "--json"]
        process = start(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        silent.settimeout(30)
        silent.accept()
        time.sleep(0.2)
        process.send_signal(number)
        out, said = process.communicate(timeout=5)
    last = json.loads(out.splitlines()[-1])
    assert (process.returncode, last["event"], last["exit_code"]) == (code, "end", code), out
    assert b"your lake:   unchanged" in said


@pytest.mark.parametrize("args", [["sql"], ["schema"], ["schema", "--json"], ["resources"], ["resources", "--json"]])
def test_a_result_that_cannot_be_printed_is_a_failure(lake, full, args):
    lake_flag = ["--lake", lake] if args == ["sql"] else []
    process = start(*args, *lake_flag, stdout=full, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, b"stdout: No space left" in said) == (6, True), said


@pytest.mark.parametrize("args", [["sql"], ["schema"], ["resources"]])
def test_a_reader_that_has_seen_enough_is_no_failure(lake, args):
    lake_flag = ["--lake", lake] if args == ["sql"] else []
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*args, *lake_flag, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b"")


def test_a_sync_whose_events_cannot_be_printed_is_whole_and_says_so(fake, tmp_path, full):
    process = sync(fake, tmp_path / "lake", "prices", "--json", stdout=full, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, b"stdout: No space left" in said) == (6, True), said
    assert list((tmp_path / "lake").rglob("prices.parquet"))
    assert ended(sync(fake, tmp_path / "lake", "prices", stdout=full)) == 0, "a table is for people only"


def end(outcome):
    """The only event of a run that has failed before it began."""
    (line,) = outcome.out.splitlines()
    event = json.loads(line)
    (failure,) = event["failures"]
    assert event["exit_code"] == outcome.code and failure["resource"] is None, outcome
    assert failure["error"] in outcome.err, outcome
    return event


def test_a_run_that_fails_before_it_begins_has_an_end_event_too(fake, lake, tmp_path):
    no_key = harness.sync(fake, tmp_path / "none", "--json", key=None).expect(2)
    assert end(no_key)["event"] == "end" and "STRIPE_API_KEY" in end(no_key)["failures"][0]["fix"]
    assert end(harness.sync(fake, tmp_path / "none", "--json", "--dry-run", key=None))["event"] == "estimate_end"
    soon = harness.sync(fake, tmp_path / "none", "--json", "--max-duration", "soon", key=fake.key).expect(2)
    assert end(soon)["failures"][0]["fix"] == "see stripelake sync --help"
    end(harness.run("import", "charges", "no-such-file", "--lake", tmp_path / "none", "--json").expect(2))
    shutil.copytree(lake, tmp_path / "lake")
    end(harness.sync(fake, tmp_path / "lake", "--json", key=LIVE).expect(4))
    with open(tmp_path / "lake/_stripelake/lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        end(harness.sync(fake, tmp_path / "lake", "--json", key=fake.key).expect(11))
    assert harness.sync(fake, tmp_path / "none", key=None).out == "", "without --json stdout is for the table"


def test_the_end_event_names_the_window_that_was_asked_for(fake, tmp_path):
    def window(*flags):
        outcome = harness.sync(fake, tmp_path / "lake", "prices", "--json", *flags).expect(0)
        return json.loads(outcome.out.splitlines()[-1])["window"]

    flags = ["--since", "2026-01-01", "--until", "2026-02-01T12:00:00Z"]
    assert window(*flags) == {"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T12:00:00Z"}
    assert window("--since", "2026-01-01") == {"since": "2026-01-01T00:00:00Z"}
    assert window() == {}


@pytest.mark.parametrize("is_ignored", [False, True], ids=["caught", "nohup"])
def test_a_terminal_that_goes_ends_a_run_unless_it_was_told_to_go_on(fake, tmp_path, is_ignored):
    command = [harness.binary(), "sync", "prices", "--lake", tmp_path / "lake", "--api-base", fake.url, "--rate", "1"]
    process = subprocess.Popen(
        [*(["nohup"] if is_ignored else []), *map(str, command), "--json"],
        env=harness.environment(fake.key),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # The tests themselves may run under nohup.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    last = process.stdout.read().splitlines()[-1]
    code = 0 if is_ignored else 129
    assert (ended(process), json.loads(last)["exit_code"]) == (code, code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_says_nothing_of_a_lake(number):
    process = start("fake-stripe", "--charges", "10", key=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (0, b"")
