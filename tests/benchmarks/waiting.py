"""How long a user waits: seconds on the wall from Enter to the end of a command, the median of some times.

    python tests/benchmarks/waiting.py

The commands: the help, the quickstart, the same again when it is done, and the report of 20 cells. Run on an otherwise
idle machine of two cores, with files that were read before (the first round is not counted).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from records import ESTIMATORS, write_results


def seconds_of(*arguments: str) -> float:
    """Seconds of one command, in a process of its own."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "estbench", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        cells, out = Path(folder, "cells"), Path(folder, "quickstart")
        write_results(cells, list(ESTIMATORS)[:10], 2)
        commands = {
            "--help": ["--help"],
            "run": ["run", "--estimator", "reparam", "--out", str(out)],
            "run, done before": ["run", "--estimator", "reparam", "--out", str(out)],
            "report of 20 cells": ["report", str(cells)],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(times + 1):
            shutil.rmtree(out, ignore_errors=True)
            for name, arguments in commands.items():
                seconds[name].append(seconds_of(*arguments))
    for name, (_, *counted) in seconds.items():
        print(f"{name}: {statistics.median(counted):.2f} s ({min(counted):.2f} to {max(counted):.2f}), n = {times}")


if __name__ == "__main__":
    main()
