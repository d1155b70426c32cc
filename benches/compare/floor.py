"""Turns gzip pages into Parquet with stripelake, and prints the CPU beside the least that this must cost.

The floor is the work of one thread, and so the import is measured on one core, too, and as it is.
"""

import gzip
import shutil
import statistics
import subprocess

from benches.support.measure import BUILD, STRIPELAKE, WORK, begin, make, parser, run

FLOOR = BUILD / "examples" / "floor"


def floor(*arguments) -> float:
    return float(subprocess.check_output([FLOOR, *arguments], text=True).split()[0])


def main() -> None:
    arguments = begin(parser(__doc__))
    pages = make(WORK / f"charges-{arguments.charges}.json", "charges", str(arguments.charges), "pages")
    packed = pages.with_suffix(".json.gz")
    if not packed.exists():
        with open(pages, "rb") as plain, gzip.open(packed, "wb", compresslevel=6) as out:
            shutil.copyfileobj(plain, out, 1 << 20)
    lake = WORK / "floor-lake"
    costs: dict[str, list[float]] = {what: [] for what in ("import", "one core", "inflate", "libdeflate", "zstd")}
    command = [STRIPELAKE, "import", "charges", packed, "--lake", lake]
    for _ in range(arguments.runs):
        for what in ("import", "one core"):
            shutil.rmtree(lake, ignore_errors=True)
            costs[what].append(run(command, one_core=what == "one core").cpu)
        costs["inflate"].append(floor("inflate", packed))
        costs["libdeflate"].append(floor("libdeflate", packed))
        costs["zstd"].append(floor("zstd", *sorted(lake.glob("charges/**/*.parquet"))))
    shutil.rmtree(lake)
    secs = {what: statistics.median(cost) for what, cost in costs.items()}
    for what, name in [
        ("import", "import from gzip"),
        ("one core", "the same on one core"),
        ("inflate", "inflate, zlib-rs"),
        ("libdeflate", "inflate, libdeflate"),
        ("zstd", "zstd 1 of the same pages"),
    ]:
        print(f"{name:<26} {secs[what]:6.2f} s CPU {secs[what] / arguments.charges * 1e6:6.1f} µs a charge")
    for inflate in ("inflate", "libdeflate"):
        least = secs[inflate] + secs["zstd"]
        ratios = [secs[what] / least for what in ("import", "one core")]
        print(f"import / ({inflate} + zstd)  {ratios[0]:.2f}, on one core {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
