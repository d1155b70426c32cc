"""Turns the fake account into a server, and a sync of it into what it cost."""

import argparse
import contextlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benches.support import measure


@dataclass
class Served:
    url: str
    key: str

    def stats(self) -> dict:
        """What was asked so far. It takes part in no limit and has no latency."""
        with urllib.request.urlopen(self.url + "/_fake/stats", timeout=10) as answer:
            return json.load(answer)


def parser(description: str, n_charges: int, runs: int | None = 5) -> argparse.ArgumentParser:
    arguments = measure.parser(description, n_charges, runs)
    arguments.add_argument("--program", type=resolved, default=measure.STRIPELAKE)
    arguments.add_argument("--server", type=resolved, help="the program that serves the account, if another one")
    return arguments


def resolved(path: str) -> Path:
    return Path(path).resolve()


@contextlib.contextmanager
def served(program: Path, n_charges: int, *flags: str) -> Iterator[Served]:
    """A fake account on loopback, which ends with this process at the latest."""
    server = subprocess.Popen(
        [program, "fake-stripe", "--json", "--until-stdin-closes", "--charges", str(n_charges), *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        hello = json.loads(server.stdout.readline())
        yield Served(hello["url"], hello["key"])
    finally:
        server.stdin.close()
        server.wait(timeout=10)


def first_sync(
    program: Path,
    account: Served,
    lake: Path,
    *arguments: str,
    each_second: Callable[[int], None] | None = None,
) -> measure.Cost:
    """Syncs into a folder that was not there before."""
    shutil.rmtree(lake, ignore_errors=True)
    command = [program, "sync", *arguments, "--lake", lake, "--api-base", account.url, "--quiet"]
    return measure.run(command, environment={"STRIPE_API_KEY": account.key}, each_second=each_second)


def n_rows(lake: Path, resource: str) -> int:
    state = json.loads((lake / "_stripelake" / "state" / f"{resource}.json").read_text())
    return sum(file["rows"] for file in state["partitions"].values())
