"""The cost of a large plan: seconds and peak memory to plan, record and read it, each in a process of its own.

The goal is 10,000 planned cells in under 10 s and 1 GiB, on 2 cores; nothing is trained:

    python tests/benchmarks/plan_scale.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

# 5 estimators x 2 problems x 5 learning rates x 4 batch sizes x seeds.
PLAN = """
import sys
from estbench.execution import plan_of
from estbench.experiment.spec import experiment_from
from estbench.store import ResultsFolder

plan = plan_of(experiment_from({
    "name": "huge",
    "estimators": ["detached", "reparam", "stl", "reinforce[baseline=ema]", "rloo[num_samples=4]"],
    "problems": ["vae", "vae[latent_size=50]"],
    "seeds": int(sys.argv[2]),
    "sweep": {"learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], "batch_size": [50, 100, 200, 400]},
}))
assert len({cell.key for cell in plan}) == len(plan) == 200 * int(sys.argv[2])
folder = ResultsFolder(sys.argv[1])
assert not any(folder.status(cell.folder) for cell in plan)
folder.create()
folder.record_plan(plan)
"""
STATUS = """
import sys
from estbench.cli import main
main(["status", sys.argv[1]])
"""
MEASURED = """
import atexit, resource, sys, time
started = time.perf_counter()
def tell():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    spent = f"{time.perf_counter() - started:.1f} s ({time.process_time():.1f} s of processor)"
    print(f"{spent}, {peak:,.0f} MiB at the peak", file=sys.stderr)
atexit.register(tell)
"""


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="?", type=int, default=10_000, help="a multiple of 200")
    cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as scratch:
        for name, script in {"plan, key, record": PLAN, "plan, key, record again": PLAN, "status": STATUS}.items():
            arguments = [sys.executable, "-c", MEASURED + script, str(Path(scratch) / "results"), str(cells // 200)]
            done = subprocess.run(arguments, capture_output=True, text=True, check=True)
            print(f"{cells:,} cells: {name}: {done.stderr.strip()}")
        size = (Path(scratch) / "results" / "experiment.json").stat().st_size
        print(f"experiment.json: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
