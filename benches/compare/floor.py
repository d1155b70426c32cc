"""Turns gzip pages into Parquet with stripelake, and prints the CPU beside what this must cost.

`least` is a program of the same crates that leaves out all that can be (`benches/least.rs`).
The floor is the work of one thread, and so the import is measured on one core, too, and as it is.
"""

import gzip
import shutil
import statistics
import subprocess

from benches.support.measure import BUILD, STRIPELAKE, WORK, begin, make, parser, run

FLOOR = BUILD / "examples" / "floor"
LEAST = BUILD / "examples" / "least"
COSTS = ("import", "one core", "least", "least, plain", "inflate", "libdeflate", "zstd")


def floor(*arguments) -> float:
    return float(subprocess.check_output([FLOOR, *arguments], text=True).split()[0])


def main() -> None:
    arguments = begin(parser(__doc__))
    pages = make(WORK / f"charges-{arguments.charges}.json", "charges", str(arguments.charges), "pages")
    packed = pages.with_suffix(".json.gz")
    if not packed.exists():
        with open(pages, "rb") as plain, gzip.open(packed, "wb", compresslevel=6) as out:
            shutil.copyfileobj(plain, out, 1 << 20)
    lake, out = WORK / "floor-lake", WORK / "least.parquet"
    costs: dict[str, list[float]] = {what: [] for what in COSTS}
    command = [STRIPELAKE, "import", "charges", packed, "--lake", lake]
    for _ in range(arguments.runs):
        for what in ("import", "one core"):
            shutil.rmtree(lake, ignore_errors=True)
            costs[what].append(run(command, one_core=what == "one core").cpu)
        costs["least"].append(run([LEAST, "import", packed, out], one_core=True).cpu)
        costs["least, plain"].append(run([LEAST, "import", pages, out], one_core=True).cpu)
        costs["inflate"].append(floor("inflate", packed))
        costs["libdeflate"].append(floor("libdeflate", packed))
        costs["zstd"].append(floor("zstd", *sorted(lake.glob("charges/**/*.parquet"))))
    shutil.rmtree(lake)
    out.unlink()
    secs = {what: statistics.median(cost) for what, cost in costs.items()}
    for what, name in [
        ("import", "import from gzip"),
        ("one core", "the same on one core"),
        ("least", "least that these crates take"),
        ("least, plain", "the same from plain pages"),
        ("inflate", "inflate, zlib-rs"),
        ("libdeflate", "inflate, libdeflate"),
        ("zstd", "zstd 1 of the same pages"),
    ]:
        print(f"{name:<28} {secs[what]:6.2f} s CPU {secs[what] / arguments.charges * 1e6:6.1f} µs a charge")
    for inflate in ("inflate", "libdeflate"):
        least = secs[inflate] + secs["zstd"]
        ratios = [secs[what] / least for what in ("import", "one core", "least")]
        print(f"import / ({inflate} + zstd)  {ratios[0]:.2f}, on one core {ratios[1]:.2f}; the least {ratios[2]:.2f}")


if __name__ == "__main__":
    main()
