"""Turns a first sync behind Stripe's limits into how much of the permitted rate it used, and what it wasted.

Charges alone in three densities, then six resources at once; `python -m benches.fetch.rate`. Where the objects lie is a
matter of the account, so each run reads another one: seeds 7, 8, 9 and so on.
"""

import dataclasses
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from benches.support.fake_account import first_sync, n_rows, parser, served
from benches.support.measure import WORK, begin

LATENCY = "150ms"
# Stripe's documented limits of live mode: each endpoint, and the account.
ENDPOINT, ACCOUNT = 25, 100
# Where the objects lie has to be found out.
SETTLED_SECS = 2
FIRST_SEED = 7
SIX = ["charges", "subscriptions", "refunds", "balance_transactions", "customers", "prices"]
# What is measured, by name: the density and the resources.
CASES = {
    "even": ("even", ["charges"]),
    "month": ("month", ["charges"]),
    "bursts": ("bursts", ["charges"]),
    "six": ("growing", SIX),
}


@dataclass
class Figures:
    requests: float
    # As many full pages as the rows need.
    least: float
    refused: float
    fill: float
    # Of what the limits permit, from the third second on until the last list has been read.
    rate: float
    # The least time that the limits leave, as a share of the wall.
    least_time: float
    # Of a core, for 100 requests a second.
    cpu: float
    wall: float


def main() -> None:
    arguments = parser(__doc__, n_charges=100_000)
    arguments.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; default: all")
    arguments.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first run's account")
    arguments = begin(arguments)
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        raise SystemExit(f"expected some of {', '.join(CASES)}, got {', '.join(unknown)}")
    program, server = arguments.program, arguments.server or arguments.program
    print(
        f"{arguments.charges:,} charges, {LATENCY} a request, {ENDPOINT}/s an endpoint, {ACCOUNT}/s the account,"
        f" --rate 100%; {arguments.runs} accounts and their medians"
    )
    print(
        f"{'':9} {'requests':>9} {'least':>7} {'ratio':>6} {'429':>6} {'fill':>7}"
        f" {'rate':>7} {'least time':>11} {'CPU of 100/s':>13} {'wall':>8}"
    )
    for name in arguments.cases or CASES:
        density, resources = CASES[name]
        seeds = range(arguments.seed, arguments.seed + arguments.runs)
        runs = []
        for seed in seeds:
            runs.append(measured(program, server, arguments.charges, seed, density, resources))
            show(f" seed {seed}", runs[-1])
        show(name, median(runs))


def measured(
    program: Path, server: Path, n_charges: int, seed: int, density: str, resources: list[str]
) -> Figures:
    flags = ["--livemode", "--seed", str(seed), "--density", density]
    flags += ["--latency", LATENCY, "--rate-limit", f"{ENDPOINT}/{ACCOUNT}"]
    lake = WORK / "rate-lake"
    samples = []
    with served(server, n_charges, *flags) as account:

        def sample(_pid: int) -> None:
            samples.append((time.monotonic(), account.stats()["by_path"]))

        cost = first_sync(program, account, lake, *resources, "--rate", "100%", each_second=sample)
        stats = account.stats()
    rows = [n_rows(lake, resource) for resource in resources]
    shutil.rmtree(lake)
    n_pages = [-(-n // 100) for n in rows]
    refused = stats["by_status"].get("429", 0)
    requests = stats["requests"]
    return Figures(
        requests=requests,
        least=sum(n_pages),
        refused=refused / requests,
        fill=sum(rows) / (100 * (requests - refused)),
        rate=used(samples, stats["by_path"]),
        least_time=max(max(n_pages) / ENDPOINT, sum(n_pages) / ACCOUNT) / cost.wall,
        cpu=cost.cpu / requests * 100,
        wall=cost.wall,
    )


def used(samples: list[tuple[float, dict]], asked_at_last: dict) -> float:
    """Requests as a share of what the limits permit the lists that are not yet read."""
    asked, permitted = 0.0, 0.0
    for (start, before), (end, after) in zip(samples, samples[1:]):
        if start - samples[0][0] < SETTLED_SECS:
            continue
        left = [total - before.get(path, 0) for path, total in asked_at_last.items()]
        asked += sum(after.values()) - sum(before.values())
        permitted += min(ACCOUNT * (end - start), sum(min(ENDPOINT * (end - start), n) for n in left))
    return asked / permitted if permitted else float("nan")


def median(runs: list[Figures]) -> Figures:
    names = [field.name for field in dataclasses.fields(Figures)]
    return Figures(**{name: statistics.median(getattr(run, name) for run in runs) for name in names})


def show(name: str, figures: Figures) -> None:
    print(
        f"{name:9} {figures.requests:9,.0f} {figures.least:7,.0f} {figures.requests / figures.least:6.3f}"
        f" {figures.refused:6.1%} {figures.fill:7.1%} {figures.rate:7.1%} {figures.least_time:11.1%}"
        f" {figures.cpu:13.1%} {figures.wall:7.1f}s",
        flush=True,
    )


if __name__ == "__main__":
    main()
