"""Turns one month of five million charges into one partition, then a thousand changed ones into it, and prints the cost.

Nothing large is written but the lake and the temporary files of the import: the pages come through a pipe.
"""

import shutil
import subprocess

from benches.support.measure import PAGES, STRIPELAKE, WORK, Cost, begin, parser, run

# What both runs should stay below.
LIMIT = 256 << 20


def imported(form: str, n_charges: int, lake, temporary) -> Cost:
    pages = subprocess.Popen(
        [PAGES, "charges", str(n_charges), form, "--one-month"], stdout=subprocess.PIPE
    )
    command = [STRIPELAKE, "import", "charges", "-", "--lake", lake, "-C", WORK / "large.toml"]
    cost = run(command, stdin=pages.stdout, environment={"TMPDIR": str(temporary)})
    pages.stdout.close()
    pages.wait()
    return cost


def show(what: str, cost: Cost) -> None:
    verdict = "within" if cost.rss <= LIMIT else "beyond"
    print(
        f"{what:<28} {cost.wall:8.1f} s wall {cost.cpu:8.1f} s CPU {cost.rss / (1 << 20):7.0f} MiB peak,"
        f" {verdict} {LIMIT >> 20} MiB",
        flush=True,
    )


def main() -> None:
    n_charges = begin(parser(__doc__, n_charges=5_000_000, runs=None)).charges
    lake, temporary = WORK / "large-lake", WORK / "large-temporary"
    for folder in (lake, temporary):
        shutil.rmtree(folder, ignore_errors=True)
    temporary.mkdir(parents=True)
    (WORK / "large.toml").write_text('[resources.charges]\npartition = "month"\n')
    try:
        show(f"import of {n_charges:,}", imported("compact", n_charges, lake, temporary))
        for file in sorted(lake.glob("charges/**/*.parquet")):
            print(f"  {file.relative_to(lake)}: {file.stat().st_size / 1e6:.1f} MB")
        show("merge of 1,000 changed", imported("changed", n_charges, lake, temporary))
    finally:
        for folder in (lake, temporary):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
