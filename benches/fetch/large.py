"""Turns a first sync of two million charges into its peak of memory, and into whether memory grows on the way.

The fake account makes the charges when they are asked for; no limits, no latency. `python -m benches.fetch.large`.
"""

import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

from benches.support.fake_account import first_sync, n_rows, parser, served
from benches.support.measure import WORK, Cost, begin

# What the sync should stay below.
LIMIT = 256 << 20


@dataclass
class Measured:
    cost: Cost
    # The most that was seen in each half of the time, in bytes.
    halves: tuple[int, int]


def main() -> None:
    arguments = begin(parser(__doc__, n_charges=2_000_000, runs=1))
    program, server, n_charges = arguments.program, arguments.server or arguments.program, arguments.charges
    runs = [measured(program, server, n_charges) for _ in range(arguments.runs)]
    peak = statistics.median(run.cost.rss for run in runs)
    first, second = (statistics.median(run.halves[half] for run in runs) for half in (0, 1))
    cpu = statistics.median(run.cost.cpu for run in runs)
    wall = statistics.median(run.cost.wall for run in runs)
    print(f"{n_charges:,} charges, medians of {arguments.runs}")
    print(f"wall {wall:.1f} s, CPU {cpu:.1f} s, {cpu / n_charges * 1e6:.1f} µs a charge, {n_charges / wall:,.0f} a second")
    verdict = "within" if peak <= LIMIT else "beyond"
    print(f"peak {peak / (1 << 20):.0f} MiB, {verdict} {LIMIT >> 20} MiB")
    print(
        f"first half at most {first / (1 << 20):.0f} MiB, second half {second / (1 << 20):.0f} MiB:"
        f" {second / first:.2f} of it"
    )


def measured(program: Path, server: Path, n_charges: int) -> Measured:
    lake = WORK / "large-sync-lake"
    seen: list[int] = []
    try:
        with served(server, n_charges) as account:
            cost = first_sync(
                program, account, lake, "charges", "--rate", "unlimited",
                each_second=lambda pid: seen.extend(resident(pid)),
            )
        if n_rows(lake, "charges") != n_charges:
            raise SystemExit(f"expected {n_charges:,} rows, got {n_rows(lake, 'charges'):,}")
    finally:
        shutil.rmtree(lake, ignore_errors=True)
    middle = max(len(seen) // 2, 1)
    return Measured(cost, (max(seen[:middle]), max(seen[middle:], default=0)))


def resident(pid: int) -> list[int]:
    """VmRSS in bytes; nothing of a process that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:")]


if __name__ == "__main__":
    main()
