"""Turns the same 100,000 charges into Parquet with stripelake and its rivals, and prints what each one cost.

Every run is a fresh process; runs are interleaved, figures are medians. Ends with 1 if the outputs do not hold
the same rows and values, and never because of speed.
"""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benches.support.measure import ROOT, STRIPELAKE, WORK, Cost, begin, make, median, parser, run

HERE = Path(__file__).resolve().parent
PYTHON = ROOT / ".venv" / "bin" / "python"


@dataclass
class Contestant:
    name: str
    command: list
    out: Path
    costs: list[Cost] = field(default_factory=list)

    def run(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        self.costs.append(run(self.command))

    def median(self, what: str) -> float:
        return median(self.costs, what)

    def files(self) -> list[Path]:
        return sorted(self.out.rglob("*.parquet"))

    def n_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files())

    def held(self) -> dict:
        glob = self.out / "**" / "*.parquet"
        return json.loads(subprocess.check_output([PYTHON, HERE / "check.py", glob], text=True))


def contestants(n_charges: int) -> list[Contestant]:
    pages = make(WORK / f"charges-{n_charges}.json", "charges", str(n_charges), "pages")
    lines = make(WORK / f"charges-{n_charges}.ndjson", "charges", str(n_charges), "lines")
    schema = WORK / "schema.json"
    schema.write_bytes(subprocess.check_output([STRIPELAKE, "schema", "charges", "--json"]))
    years = WORK / "years.toml"
    years.write_text('[resources.charges]\npartition = "year"\n')
    version = importlib.metadata.version
    all_of_them = []

    def add(name: str, key: str, *command) -> None:
        all_of_them.append(Contestant(name, list(command), WORK / "out" / key))

    def add_ours(name: str, key: str, *more) -> None:
        add(name, key, STRIPELAKE, "import", "charges", pages, "--lake", WORK / "out" / key, *more)

    def add_rival(name: str, key: str, module: str, *more) -> None:
        script = HERE / f"rival_{module}.py"
        out = WORK / "out" / key / "charges.parquet"
        add(f"{name} {version(module)}", key, PYTHON, "-B", script, schema, lines, out, *more)

    add_ours("stripelake", "months")
    add_ours("stripelake, a file a year", "years", "-C", years)
    add_rival("DuckDB", "duckdb", "duckdb")
    add_rival("DuckDB, threads=1", "duckdb1", "duckdb", "1")
    add_rival("Polars", "polars", "polars")
    add_rival("pyarrow", "pyarrow", "pyarrow")
    return all_of_them


def table(all_of_them: list[Contestant], n_charges: int) -> None:
    ours = all_of_them[0]
    print(f"{'':<28} {'CPU s':>14} {'wall s':>14} {'peak MiB':>14} {'output MB':>14} {'files':>6} {'µs/charge':>10}")
    for one in all_of_them:
        cells = []
        for what, unit in [("cpu", 1.0), ("wall", 1.0), ("rss", float(1 << 20))]:
            value = one.median(what)
            cells.append(f"{value / unit:.2f} ({ours.median(what) / value:.2f})")
        cells.append(f"{one.n_bytes() / 1e6:.2f} ({ours.n_bytes() / one.n_bytes():.2f})")
        per_charge = one.median("cpu") / n_charges * 1e6
        shown = " ".join(f"{cell:>14}" for cell in cells)
        print(f"{one.name:<28} {shown} {len(one.files()):>6} {per_charge:>10.1f}")
    print("In brackets: stripelake (first line) as a share of it; below 1 is less.")


def differences(all_of_them: list[Contestant]) -> list[str]:
    expected = all_of_them[0].held()
    found = []
    for one in all_of_them[1:]:
        held = one.held()
        found += [
            f"{one.name}: {what}: expected {value}, got {held[what]}"
            for what, value in expected.items()
            if held[what] != value
        ]
    print(f"compared: {expected['n_rows']:,} rows, sum of amount {expected['sum_of_amount']}, {len(expected)} figures")
    return found


def main() -> None:
    arguments = begin(parser(__doc__))
    all_of_them = contestants(arguments.charges)
    for one in all_of_them:
        one.run()
        one.costs.clear()  # the first run only warms the page cache
    for _ in range(arguments.runs):
        for one in all_of_them:
            one.run()
    version = subprocess.check_output([STRIPELAKE, "--version"], text=True).strip()
    print(f"{version}; {arguments.charges:,} charges, medians of {arguments.runs} runs")
    table(all_of_them, arguments.charges)
    wrong = differences(all_of_them)
    shutil.rmtree(WORK / "out")
    if wrong:
        sys.exit("the outputs differ:\n  " + "\n  ".join(wrong))


if __name__ == "__main__":
    main()
