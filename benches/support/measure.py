"""Turns a command into what it cost, run by run."""

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "target" / "release"
STRIPELAKE = BUILD / "stripelake"
PAGES = BUILD / "examples" / "pages"
WORK = ROOT / "target" / "bench"


@dataclass
class Cost:
    wall: float
    user: float
    system: float
    rss: int

    @property
    def cpu(self) -> float:
        return self.user + self.system


def median(costs: list[Cost], what: str) -> float:
    return statistics.median(getattr(cost, what) for cost in costs)


def parser(description: str, n_charges: int = 100_000, runs: int | None = 5) -> argparse.ArgumentParser:
    """What every bench may be told; without `runs` it runs once."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--charges", type=int, default=n_charges, metavar="N", help="default: %(default)s")
    if runs is not None:
        arguments.add_argument("--runs", type=int, default=runs, metavar="N", help="default: %(default)s, for medians")
    return arguments


def begin(arguments: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; tells what the figures will have been measured on."""
    parsed = arguments.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    print(hardware(), flush=True)
    return parsed


def run(
    command: list,
    stdin=None,
    environment: dict | None = None,
    each_second: Callable[[int], None] | None = None,
    one_core: bool = False,
) -> Cost:
    """Runs a fresh process to its end; `each_second` gets its id at once and then every second.

    This process must stay small: a child's peak begins with its parent's size.
    """
    started = time.monotonic()
    child = subprocess.Popen(
        [str(part) for part in command],
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        cwd=WORK,
        preexec_fn=stay_on_one_core if one_core else None,
    )
    ended = threading.Event()
    watch = threading.Thread(target=watched, args=(child.pid, each_second, ended))
    watch.start()
    try:
        output = child.stdout.read()
    finally:
        ended.set()
        watch.join()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"expected exit 0, got {child.returncode}: {command}\n{output.decode(errors='replace')}")
    return Cost(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)


def stay_on_one_core() -> None:
    """What runs on two takes more CPU for the same work: they share caches, and often the hardware of one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def watched(pid: int, each_second: Callable[[int], None] | None, ended: threading.Event) -> None:
    if each_second is None:
        return
    each_second(pid)
    while not ended.wait(1):
        each_second(pid)


def hardware() -> str:
    """What the figures were measured on, and how busy it was."""
    with open("/proc/meminfo") as lines:
        gib = int(next(lines).split()[1]) / (1 << 20)
    load = os.getloadavg()[0]
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {os.cpu_count()} cores {platform.machine()}, {gib:.0f} GiB, load {load:.1f} before the first run"


def make(path: Path, *arguments: str) -> Path:
    """A file of the fake account, made once."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        with open(partial, "wb") as out:
            subprocess.run([PAGES, *arguments], stdout=out, check=True)
        partial.rename(path)
    return path
