"""Whether an experiment has the same numbers as at an earlier commit, bit for bit:

    python tests/benchmarks/same_numbers.py 1578e9c reparam_vs_reinforce --seeds 1 --steps 200

Each side runs its own code. The keys of the cells are compared, and of their tables every column but the seconds, which
no two runs share. Ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parents[2]
TABLES = {"curves.parquet": ["seconds"], "gradients.parquet": []}


def run(source: Path, out: Path, arguments: list[str]) -> None:
    """Run an experiment with the estbench of ``source``, without its throughput, which is only seconds."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "estbench", "run", *arguments, "--set", "throughput.rounds=0", "--out", str(out)]
    subprocess.run(command, env=environment, cwd=source, check=True, stdout=subprocess.DEVNULL)


def read(out: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Return the tables of every cell by its key, without the columns that may differ."""
    cells = {}
    for record in out.glob("cells/*/cell.json"):
        key = json.loads(record.read_text(encoding="utf-8"))["cell"]["key"]
        cells[key] = {name: pd.read_parquet(record.parent / name).drop(columns=TABLES[name]) for name in TABLES}
    return cells


def main() -> int:
    """Print what is equal, and return 1 if anything is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the earlier commit to compare with")
    known, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        earlier = Path(scratch) / "earlier"
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(earlier), known.commit], check=True)
        try:
            folders = {name: Path(scratch) / f"results-{name}" for name in ("now", "earlier")}
            for name, source in {"now": HERE, "earlier": earlier}.items():
                run(source, folders[name], arguments)
        finally:
            subprocess.run([*git, "remove", "--force", str(earlier)], check=True)
        now, before = (read(folder) for folder in folders.values())
    if now.keys() != before.keys():
        print(f"the keys differ: {len(now)} cells now, {len(before)} at {known.commit}")
        return 1
    unequal = [f"{key[:8]} {name}" for key in now for name in TABLES if not now[key][name].equals(before[key][name])]
    numbers = sum(int(table.size) for tables in now.values() for table in tables.values())
    print(f"{len(now)} cells, {numbers:,} entries: {'unequal: ' + ', '.join(unequal) if unequal else 'all equal'}")
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main())
