"""Turns the charges of the same account into files with stripelake and its rivals, and prints what each one cost.

No limits, no latency; the server runs on the same cores and is not counted. Every run is a fresh process, the
runs are interleaved. Ends with 1 if the charges or the sums of their amounts differ, and never because of speed.
`python -m benches.fetch.rivals`.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benches.support.fake_account import Served, first_sync, parser, served
from benches.support.measure import ROOT, WORK, Cost, begin, median, run

HERE = Path(__file__).resolve().parent
OUT = WORK / "rivals"
# stripelake reads this many besides, so that its start does not weigh.
MANY = 100_000


@dataclass
class Rival:
    name: str
    key: str
    # Below its output: where the charges are.
    charges: str = "."

    def python(self) -> Path:
        return ROOT / ".venv-bench" / self.key / "bin" / "python"

    def version(self) -> str:
        """The first line of its requirements, as they are pinned."""
        return (HERE / f"requirements-{self.key}.txt").read_text().split("==")[1].split()[0]


RIVALS = [Rival("tap-stripe", "tap"), Rival("dlt", "dlt", "lake/charges"), Rival("stripe + pandas", "sdk")]


@dataclass
class Contestant:
    name: str
    account: Served
    n_charges: int
    out: Path
    # Our program, or a rival.
    by: Path | Rival
    costs: list[Cost] = field(default_factory=list)

    def run(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        if isinstance(self.by, Rival):
            script = HERE / f"rival_{self.by.key}.py"
            cost = run([self.by.python(), "-B", script, self.account.url, self.account.key, self.out])
        else:
            cost = first_sync(self.by, self.account, self.out, "charges", "--rate", "unlimited")
        self.costs.append(cost)

    def held(self) -> dict:
        folder = self.out / (self.by.charges if isinstance(self.by, Rival) else "charges")
        # Any environment with pyarrow reads them all.
        return json.loads(subprocess.check_output([RIVALS[-1].python(), "-B", HERE / "held.py", folder], text=True))


def main() -> None:
    arguments = begin(parser(__doc__, n_charges=10_000))
    program, server, n_charges = arguments.program, arguments.server or arguments.program, arguments.charges
    with served(server, n_charges) as few, served(server, MANY) as many:
        all_of_them = [
            Contestant("stripelake", few, n_charges, OUT / "few", program),
            *(
                Contestant(f"{rival.name} {rival.version()}", few, n_charges, OUT / rival.key, rival)
                for rival in RIVALS
            ),
            Contestant("stripelake, more", many, MANY, OUT / "many", program),
        ]
        for _ in range(arguments.runs):
            for one in all_of_them:
                one.run()
    print(f"medians of {arguments.runs}; the server is on the same cores, which wall and objects a second include")
    table(all_of_them)
    wrong = differences(all_of_them)
    shutil.rmtree(OUT)
    if wrong:
        sys.exit("the outputs differ:\n  " + "\n  ".join(wrong))


def table(all_of_them: list[Contestant]) -> None:
    ours, more = all_of_them[0], all_of_them[-1]
    per_charge = {one.name: median(one.costs, "cpu") / one.n_charges for one in all_of_them}
    print(
        f"{'':24} {'charges':>8} {'CPU s':>7} {'wall s':>7} {'objects/s':>10} {'peak MiB':>9} {'CPU ms/1,000':>13}"
        f" {'same n':>8} {MANY:>8,}"
    )
    for one in all_of_them:
        cpu, wall, rss = (median(one.costs, what) for what in ("cpu", "wall", "rss"))
        print(
            f"{one.name:24} {one.n_charges:8,} {cpu:7.2f} {wall:7.2f} {one.n_charges / wall:10,.0f}"
            f" {rss / (1 << 20):9.0f} {per_charge[one.name] * 1e6:13.1f}"
            f" {per_charge[one.name] / per_charge[ours.name]:7.1f}x {per_charge[one.name] / per_charge[more.name]:7.1f}x"
        )
    print(f"Last columns: CPU a charge as a multiple of stripelake's, at the same number of charges and at {MANY:,}.")


def differences(all_of_them: list[Contestant]) -> list[str]:
    ours = all_of_them[0].held()
    print(f"stripelake holds {ours['n_rows']:,} charges, sum of amount {ours['sum_of_amount']}")
    found = []
    for one in all_of_them:
        expected = {"n_rows": one.n_charges, "n_ids": one.n_charges}
        if one.account is all_of_them[0].account:
            expected["sum_of_amount"] = ours["sum_of_amount"]
        held = one.held()
        found += [
            f"{one.name}: {what}: expected {value}, got {held[what]}"
            for what, value in expected.items()
            if held[what] != value
        ]
    return found


if __name__ == "__main__":
    main()
