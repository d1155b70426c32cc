"""Turns a first sync of charges into what it cost beside the least that any program of the same crates costs.

`benches/least.rs` asks for the same pages with four lists, inflates, decodes and encodes them, and does nothing else.
Without limits, and behind Stripe's; the runs are interleaved. `python -m benches.fetch.least`.
"""

import shutil
import subprocess
from pathlib import Path

from benches.fetch.rate import ACCOUNT, ENDPOINT, LATENCY
from benches.support.fake_account import first_sync, parser, served
from benches.support.measure import BUILD, WORK, Cost, begin, median, run

LEAST = BUILD / "examples" / "least"
# The server counts in any second, and requests do not arrive as evenly as they are sent.
RATE = 24
LIMITS = ["--livemode", "--density", "even", "--latency", LATENCY, "--rate-limit", f"{ENDPOINT}/{ACCOUNT}"]


def main() -> None:
    arguments = parser(__doc__, n_charges=100_000)
    arguments.add_argument("--limited", type=int, default=30_000, metavar="N", help="charges behind the limits")
    arguments = begin(arguments)
    program, server = arguments.program, arguments.server or arguments.program
    compare(program, server, arguments.charges, arguments.runs, None)
    compare(program, server, arguments.limited, arguments.runs, RATE)


def compare(program: Path, server: Path, n_charges: int, n_runs: int, rate: int | None) -> None:
    lake, file = WORK / "least-lake", WORK / "least.parquet"
    ours, least = [], []
    for _ in range(n_runs):
        # An account that was not asked before, for each: its limits count what came before.
        with served(server, n_charges, *(LIMITS if rate else [])) as account:
            ours.append(first_sync(program, account, lake, "charges", "--rate", "100%" if rate else "unlimited"))
            ours_requests = account.stats()["requests"]
        with served(server, n_charges, *(LIMITS if rate else [])) as account:
            command = [LEAST, "sync", account.url, account.key, file, *([rate] if rate else [])]
            least.append(run(command))
            least_requests = account.stats()["requests"]
    size = subprocess.check_output(["du", "-bs", lake / "charges"], text=True).split()[0]
    print(f"{n_charges:,} charges, {f'{ENDPOINT}/s and {LATENCY} a request' if rate else 'no limits'}; medians of {n_runs}")
    show("stripelake", ours, n_charges, ours_requests)
    show("the least", least, n_charges, least_requests)
    print(f"  {median(ours, 'cpu') / median(least, 'cpu'):.2f} times; {int(size):,} and {file.stat().st_size:,} bytes")
    shutil.rmtree(lake)
    file.unlink()


def show(name: str, costs: list[Cost], n_charges: int, n_requests: int) -> None:
    cpu = median(costs, "cpu")
    print(
        f"  {name:11} {cpu:6.2f} s CPU {cpu / n_charges * 1e6:6.1f} µs a charge {100 * cpu / n_requests:7.1%} of a core for"
        f" 100 requests/s, {n_requests:,} requests, {median(costs, 'wall'):.1f} s, {median(costs, 'rss') / (1 << 20):.0f} MiB"
    )


if __name__ == "__main__":
    main()
