"""Turns a command into what it cost."""

import datetime
import os
import platform
import subprocess
import sys
import time
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


def run(command: list, stdin=None, environment: dict | None = None) -> Cost:
    """Runs a fresh process to its end. This process must stay small: a child's peak begins with its parent's size."""
    started = time.monotonic()
    child = subprocess.Popen(
        [str(part) for part in command],
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        cwd=WORK,
    )
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"expected exit 0, got {child.returncode}: {command}\n{output.decode(errors='replace')}")
    return Cost(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)


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
