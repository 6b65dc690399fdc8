"""What a report of many cells costs: seconds and peak memory of one build, in a process of its own.

The goals are 1,000 cells in under 30 s and 1.5 GiB, and 20 cells in under 6 s, on 2 cores:

    python tests/benchmarks/report_scale.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from records import ESTIMATORS, write_results

# Estimators x seeds.
SIZES = ("10x2", "10x100", "20x50")
BUILD = """
import resource, sys, time
started = time.perf_counter()
from estbench.report import build
page = build(sys.argv[1], sys.argv[2].split(",") if len(sys.argv) > 2 else None)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
size = page.stat().st_size / 1e6 if page.is_file() else 0
print(f"{time.perf_counter() - started:.1f} s, {peak:,.0f} MiB at the peak, page of {size:.1f} MB")
"""


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=SIZES, metavar="ESTIMATORSxSEEDS")
    parser.add_argument("--format", help="formats to write, as for `estbench report`; all if not given")
    arguments = parser.parse_args()
    for size in arguments.sizes:
        estimators, seeds = (int(number) for number in size.split("x"))
        labels = [*ESTIMATORS, *(f"estimator{number}" for number in range(estimators))][:estimators]
        with tempfile.TemporaryDirectory() as scratch:
            path = write_results(Path(scratch) / "results", labels, seeds)
            formats = [arguments.format] if arguments.format else []
            done = subprocess.run(
                [sys.executable, "-c", BUILD, str(path), *formats], capture_output=True, text=True, check=True
            )
        print(f"{estimators} estimators x {seeds} seeds = {estimators * seeds} cells: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
