"""What worker processes bring and what they cost. Run on an otherwise idle machine of two cores:

    python tests/benchmarks/jobs.py

Rounds of runs of the same 16 cells of 2,000 steps: in this process with two threads, the same with one, and `jobs=2`
with one thread each; each run is a process of its own, the order alternates, and ratios are taken within a round.
Start-up counts. Two processes of one thread can gain at most 2 divided by what the second thread gains a single
process: so much is the limit. Then the engine's overhead: cells of one step, on one worker against in-process, per
cell.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from estbench.stats import log_t_interval

SMALL = {
    "estimators": ["reparam"],
    "problems": ["vae[dataset=digits,hidden=[8],latent_size=2]"],
    "training": {"steps": 1},
    "evaluation": {"examples": 2, "num_samples": 2},
    "probe": {"replicates": 0},
}


def one_run(experiment: dict[str, Any], options: dict[str, Any]) -> dict[str, float]:
    """Run in this process; seconds in all, and until the first cell began and the last one ended."""
    import estbench
    from estbench.execution import Listener

    moments: list[float] = []

    class Watch(Listener):
        def cell_started(self, cell: Any) -> None:
            moments.append(time.perf_counter())

        def cell_ended(self, cell: Any, outcome: Any, folder: Any) -> None:
            assert outcome.status == "done", outcome
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        estbench.run({**experiment, "throughput": {"rounds": 0}}, out=out, listener=Watch(), **options)
        return {
            "all": time.perf_counter() - start,
            "start": moments[0] - start,
            "cells": moments[-1] - moments[1],
        }


def measured(experiment: dict[str, Any], **options: Any) -> dict[str, float]:
    """The same in a fresh process."""
    arguments = [sys.executable, __file__, "--one", json.dumps([experiment, options])]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_ratio(name: str, ratios: np.ndarray) -> None:
    """Print the ratios of the rounds and their geometric mean; its interval takes three."""
    found = log_t_interval(ratios)
    rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{name}: {found.value:.2f} (95 % {found.low:.2f} to {found.high:.2f}; rounds: {rounds})")


def main() -> None:
    """Print throughput, start-up and overhead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        experiment, options = json.loads(arguments.one)
        print(json.dumps(one_run(experiment, options)))
        return
    quickstart = {
        "estimators": ["reparam"],
        "problems": ["vae[dataset=mnist5k]"],
        "seeds": arguments.cells,
        "training": {"steps": arguments.steps},
    }
    sides = {
        "in-process, 2 threads": {"threads": 2},
        "in-process, 1 thread": {"threads": 1},
        "--jobs 2, 1 thread each": {"jobs": 2, "threads": 1},
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for pair in range(arguments.pairs):
        for side in list(sides)[:: 1 if pair % 2 == 0 else -1]:
            seconds[side].append(measured(quickstart, **sides[side])["all"])
    for side, values in seconds.items():
        print(f"{side}: {np.median(values):.1f} s for {arguments.cells} cells of {arguments.steps} steps (median)")
    two_threads, one_thread, jobs = map(np.array, seconds.values())
    print_ratio("throughput of --jobs 2 relative to in-process, 2 threads", two_threads / jobs)
    print_ratio("the limit of that, 2 over the gain of the second thread", 2 * two_threads / one_thread)
    many = {**SMALL, "seeds": 40}
    here, there = measured(many, threads=1), measured(many, jobs=1, threads=1)
    print(f"overhead: {(there['cells'] - here['cells']) / 39:.3f} s a cell; start-up {there['start']:.1f} s")


if __name__ == "__main__":
    main()
