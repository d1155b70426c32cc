"""Turns a terminal of its own into what a person sees of a run."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

import fake as fakes
import harness

# What draws over lines that are there, or clears them.
DRAWN = re.compile(rb"\x1b\[[0-9;]*[A-HJKf]")


@pytest.fixture(scope="module")
def slow():
    """An account that takes its time, so that bars are there when the run ends."""
    with fakes.Fake(charges=4_000, seed=21, latency="200ms") as account:
        yield account


def seen(account, lake, *args, interrupt_after=None, timeout=60):
    """All that a terminal of 80 columns is sent, and the exit code."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [harness.binary(), "sync", "--lake", lake, "--api-base", account.url, "--rate", "unlimited", *args]
    process = subprocess.Popen(
        list(map(str, command)),
        env=harness.environment(account.key) | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    shown, began, is_interrupted = b"", time.monotonic(), interrupt_after is None
    try:
        while time.monotonic() < began + timeout:
            if not is_interrupted and interrupt_after in shown:
                process.send_signal(signal.SIGINT)
                is_interrupted = True
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    piece = os.read(terminal, 65536)
                except OSError:
                    break  # the other side is closed
                if not piece:
                    break
                shown += piece
        return process.wait(10), shown
    finally:
        process.kill()
        os.close(terminal)


def check_nothing_is_drawn_over(shown, *words):
    """What was said at the end is still there: nothing moves the cursor or clears a line from the first word on."""
    text = shown.decode(errors="replace")
    for word in words:
        assert word in text, f"expected {word!r} on the terminal, got {text[-2000:]!r}"
    last = shown[shown.index(words[0].encode()) :]
    assert not DRAWN.search(last), f"drawn over what was said: {last[-2000:]!r}"


def test_bars_leave_what_is_said_of_an_interruption_alone(slow, tmp_path):
    code, shown = seen(slow, tmp_path / "lake", interrupt_after=b"charges  ")
    assert code == 130, shown[-2000:]
    assert DRAWN.search(shown), f"expected bars, got {shown[-2000:]!r}"
    check_nothing_is_drawn_over(shown, "error: run: interrupted", "fix:", "your lake:", "exit:        130")


def test_bars_leave_what_is_said_of_a_budget_alone(slow, tmp_path):
    code, shown = seen(slow, tmp_path / "lake", "--max-requests", "14")
    assert code == 9, shown[-2000:]
    check_nothing_is_drawn_over(shown, "error: run: --max-requests", "fix:", "exit:        9")


def test_bars_leave_the_table_of_a_complete_run_alone(slow, tmp_path):
    code, shown = seen(slow, tmp_path / "lake", "customers", "prices")
    assert code == 0, shown[-2000:]
    check_nothing_is_drawn_over(shown, "Complete in")
    # Bars that went before would look like a part of the table.
    table = shown[: shown.index(b"Complete in")].splitlines()[-3:]
    assert not any("rows done" in line.decode(errors="replace") for line in table), table
