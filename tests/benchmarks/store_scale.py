"""Ten thousand contributors on an object store: files, requests, bytes, and the limit that is met first.

    python tests/benchmarks/store_scale.py --contributors 10000

One archive is made and measured; the rest is counted. Each contributor publishes archives of experiments, which are
chosen with the popularity of Zipf's law (the k-th is chosen 1/k as often as the first). Prices are not known here: give
them by options, in any currency, for a thousand requests and for a GiB that leaves the store.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from records import ESTIMATORS, write_results

from estbench import limits
from estbench.store.archive import TABLES, Archive
from estbench.store.pack import pack

LISTED = 1000  # names that one request to list a bucket returns, on the usual stores
# A reader by columns asks for the end of the file, for the directory, and for the footer and the columns of two tables.
RANGES = 6
# The columns of a curve that a site reads; it needs all of the gradients.
NEEDED = {"cell", "step", "evaluations", "split", "metric", "value"}
RECORD_BYTES, PLAN_BYTES, PLAN_PARTS = 16_000, 1_000, 53  # of a run, in memory and in the plan: see estbench.limits
PAGES_BYTES = 10**9  # the size of a published site on GitHub Pages
PAGE_BYTES = 0.5e6  # of an experiment without figures; with figures, 2.3 MB


class Measured(NamedTuple):
    """One archive: its runs, its bytes, those that a site needs, and rows and bytes in memory of its largest table."""

    runs: int
    size: int
    needed: int
    rows: int
    memory: int


def measure(estimators: int, seeds: int) -> Measured:
    """Make an archive, and measure it."""
    labels = [*ESTIMATORS, *(f"estimator{number}" for number in range(estimators))][:estimators]
    with tempfile.TemporaryDirectory() as scratch:
        write_results(Path(scratch) / "one", labels, seeds, shared=True)
        packed = pack([Path(scratch) / "one"], Path(scratch) / "one.zip")
        archive = Archive(packed.path)
        unneeded = _count_bytes(archive)
        tables = [archive.table(name) for name in TABLES]
    largest = max(tables, key=lambda table: table.nbytes)
    return Measured(packed.runs, packed.size, packed.size - unneeded, max(map(len, tables)), largest.nbytes)


def _count_bytes(archive: Archive) -> int:
    """Return the bytes of the columns of the curves that a site does not read."""
    content = pq.ParquetFile(io.BytesIO(archive.members["curves.parquet"])).metadata
    columns = [
        content.row_group(at).column(of) for at in range(content.num_row_groups) for of in range(content.num_columns)
    ]
    return sum(each.total_compressed_size for each in columns if each.path_in_schema not in NEEDED)


def count_archives(contributors: int, archives: int, experiments: int, rng: np.random.Generator) -> np.ndarray:
    """Return the number of archives of each experiment, the most popular first."""
    weights = 1 / np.arange(1, experiments + 1)
    return np.sort(rng.multinomial(contributors * archives, weights / weights.sum()))[::-1]


def main() -> None:
    """Print what is stored, what a reader asks for, and which limit is met first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contributors", type=int, default=10_000)
    parser.add_argument("--archives", type=int, default=2, help="of each contributor")
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--new", type=int, default=20, help="archives that are new at a later look")
    parser.add_argument("--seconds", type=float, default=0.8, help="of a site for each 100 runs, as site_scale.py says")
    parser.add_argument("--price-requests", type=float, help="of 1,000 requests")
    parser.add_argument("--price-gib", type=float, help="of a GiB that leaves the store")
    arguments = parser.parse_args()
    one = measure(estimators=10, seeds=5)
    per = count_archives(arguments.contributors, arguments.archives, arguments.experiments, np.random.default_rng(0))
    total, largest = int(per.sum()), int(per[0])
    needed = f"{one.needed / one.size:.0%} of it is what a site needs"
    print(f"an archive of {one.runs} runs: {one.size / 1e6:.2f} MB; {needed}")
    print(f"stored: {total:,} archives, {total * one.runs:,} runs, {total * one.size / 1e9:.1f} GB")
    print(f"as results folders: {total * one.runs * 4:,} files")
    print(f"the most popular experiment: {largest:,} archives, {largest * one.runs:,} runs")

    ways = {
        "a site from all, whole archives": (-(-total // LISTED) + total, total * one.size),
        "a site from all, by columns": (-(-total // LISTED) + RANGES * total, total * one.needed),
        f"a later look, {arguments.new} new": (-(-total // LISTED) + arguments.new, arguments.new * one.size),
        "one archive for each experiment, were it allowed": (1 + arguments.experiments, total * one.size),
    }
    for way, (requests, size) in ways.items():
        known = [
            requests / 1000 * arguments.price_requests if arguments.price_requests is not None else None,
            size / 2**30 * arguments.price_gib if arguments.price_gib is not None else None,
        ]
        cost = f", costs {sum(known):.2f}" if None not in known else ""  # type: ignore[arg-type]
        print(f"{way}: {requests:,} requests, {size / 1e9:.2f} GB{cost}")

    # Each limit as the number of runs of one experiment, or of all, at which it is met.
    share = largest * one.runs / arguments.contributors  # runs of the largest experiment for each contributor
    every = total * one.runs / arguments.contributors
    tables = limits.TABLES_BYTES.value / (one.memory / one.runs)
    records = limits.RECORDS_BYTES.value / RECORD_BYTES
    plan = min(limits.JSON_BYTES.value / PLAN_BYTES, limits.JSON_PARTS.value / PLAN_PARTS)
    rows = limits.ARCHIVE_ROWS.value / (one.rows / one.runs)
    packed = limits.ARCHIVE_BYTES.value / (one.size / one.runs)
    met = {
        "tables of the largest experiment in memory (TABLES_BYTES)": tables / share,
        "its records in memory, merged into one folder (RECORDS_BYTES)": records / share,
        "its plan, merged into one folder or archive (JSON_PARTS)": plan / share,
        "its rows, merged into one archive (ARCHIVE_ROWS)": rows / share,
        "its bytes, merged into one archive (ARCHIVE_BYTES)": packed / share,
        "ten minutes for a site from scratch": 600 / (arguments.seconds * every / 100),
        "5 GB of archives in a git repository": 5e9 / (one.size / one.runs) / every,
        "1 GB of pages without figures, one for each contributor's own experiment": PAGES_BYTES / PAGE_BYTES,
    }
    print("what breaks first, and at how many contributors:")
    for what, contributors in sorted(met.items(), key=lambda item: item[1]):
        print(f"  {contributors:>9,.0f}  {what}")


if __name__ == "__main__":
    main()
