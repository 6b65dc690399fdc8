"""What a site over many experiments costs: seconds and peak memory of `estbench site`, in a process of its own.

The goal is 200 experiments of 10 estimators and 10 seeds (20,000 runs) in under 2 minutes and 2 GiB, on 2 cores:

    python tests/benchmarks/site_scale.py

Each experiment comes as two archives, with half of the seeds each, which the site merges. They are made from one
experiment by other numbers, names and cards, because to write 20,000 runs one by one takes minutes.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from records import ESTIMATORS, write_results

from estbench.store.archive import SCHEMAS, TABLES, Archive, write_archive
from estbench.store.pack import pack

CARDS = 20
SITE = """
import resource, sys, time
from estbench.cli import _exit_code
started = time.perf_counter()
code = _exit_code(["site", sys.argv[1], "-o", sys.argv[2], *sys.argv[3:]])
seconds = time.perf_counter() - started
own, worker = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
cpu = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(f"{seconds:.1f} s, {cpu:.1f} s of CPU; {own:,.0f} MiB at the peak, and {worker:,.0f} MiB of the largest worker")
sys.exit(code)
"""


def write_archives(folder: Path, experiments: int, estimators: int, seeds: int) -> None:
    """Write two archives for each experiment, each with the runs of half of the seeds."""
    labels = [*ESTIMATORS, *(f"estimator{number}" for number in range(estimators))][:estimators]
    with tempfile.TemporaryDirectory() as scratch:
        path = write_results(Path(scratch) / "base", labels, seeds, shared=True)
        base = Archive(pack([path], Path(scratch) / "base.zip").path)
    tables = {name: base.table(name) for name in TABLES if name != "pictures.parquet"}
    rounds = base.table("throughput.parquet")
    folders = list(base.records)
    for number in range(experiments):
        rng = np.random.default_rng(number)
        plan = copy.deepcopy(base.plan)
        plan["experiment"]["name"] = f"experiment-{number:03}"
        for cell in plan["cells"]:
            cell["problem"]["card"] = f"card-{number % CARDS}"
        by_folder = {cell["folder"]: cell for cell in plan["cells"]}
        for half in (0, 1):
            own = [name for name in folders if by_folder[name]["seed"] % 2 == half]
            records = {name: {**base.records[name], "cell": by_folder[name]} for name in own}
            parts = {name: _choose(table, folders, own, rng) for name, table in tables.items()}
            some = {**plan, "cells": [by_folder[name] for name in own]}
            target = folder / f"contributor-{number % 7}" / f"{number:03}-{half}.zip"
            write_archive(
                target, plan["experiment"]["name"], some, records, {**parts, "throughput.parquet": rounds}, []
            )


def _choose(table: pa.Table, every: list[str], own: list[str], rng: np.random.Generator) -> pa.Table:
    """Return the rows of some cells, with their new numbers, and other values."""
    places = np.full(len(every), -1)
    places[[every.index(name) for name in own]] = np.arange(len(own))
    cells = places[table.column("cell").to_numpy()]
    chosen = table.filter(pa.array(cells >= 0)).set_column(0, "cell", pa.array(cells[cells >= 0]))
    at = chosen.schema.get_field_index("value")
    values = chosen.column("value").to_numpy() * np.exp(rng.normal(0, 1e-3))
    return chosen.set_column(at, "value", pa.array(values)).cast(SCHEMAS[_name_of(chosen)])


def _name_of(table: pa.Table) -> str:
    return "curves.parquet" if "metric" in table.column_names else "gradients.parquet"


def main() -> None:
    """Write archives, and print what their site takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--estimators", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--figures", action="store_true", help="draw the figures of reports, too")
    parser.add_argument("--keep", type=Path, help="a folder for the archives and the site, which is kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        started = time.perf_counter()
        if not (folder / "archives").exists():
            write_archives(folder / "archives", arguments.experiments, arguments.estimators, arguments.seeds)
        archives = list((folder / "archives").rglob("*.zip"))
        size = sum(path.stat().st_size for path in archives) / 1e6
        print(f"{len(archives)} archives of {size:.0f} MB, written in {time.perf_counter() - started:.0f} s")
        options = ["--jobs", arguments.jobs, *([] if arguments.figures else ["--no-figures"])]
        command = [sys.executable, "-c", SITE, str(folder / "archives"), str(folder / "site"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        pages = sum(path.stat().st_size for path in (folder / "site").rglob("*") if path.is_file()) / 1e6
        runs = arguments.experiments * arguments.estimators * arguments.seeds
        print(f"{runs:,} runs: {done.stdout.strip().splitlines()[-1]}; a site of {pages:.0f} MB")


if __name__ == "__main__":
    main()
