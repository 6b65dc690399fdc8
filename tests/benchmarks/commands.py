"""What `estbench report` and `estbench status` cost against an earlier commit, paired:

    python tests/benchmarks/commands.py 47955ac --pairs 10

Each side runs its own code on a results folder that its own tests/records.py writes, so the schema may have changed.
Every command is a process of its own; the order alternates, and the ratio is taken within a pair. Seconds are those of
the processors (user and system), which other work on the machine disturbs less than the clock on the wall.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from estbench.stats import log_t_interval

HERE = Path(__file__).parents[2]
WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]) / "tests"))
from records import ESTIMATORS, write_results
write_results(Path(sys.argv[2]), list(ESTIMATORS), int(sys.argv[3]))
"""
COMMANDS = {
    "status": ["status"],
    "report": ["report"],
    "report --format html,csv": ["report", "--format", "html,csv"],
}


def seconds_of(source: Path, arguments: list[str]) -> float:
    """Processor seconds of a Python process that imports estbench from ``source``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], env=environment, cwd=source, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print a ratio with its interval for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the earlier commit to compare with")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5, help="of six estimators: five are 30 cells")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        earlier = Path(scratch) / "earlier"
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(earlier), arguments.commit], check=True)
        try:
            sides = {"now": HERE, "earlier": earlier}
            folders = {name: str(Path(scratch) / f"results-{name}") for name in sides}
            for name, source in sides.items():
                seconds_of(source, ["-c", WRITE, str(source), folders[name], str(arguments.seeds)])
            for command, words in COMMANDS.items():
                seconds: dict[str, list[float]] = {name: [] for name in sides}
                for pair in range(arguments.pairs + 1):
                    for name in list(sides)[:: 1 if pair % 2 else -1]:
                        taken = seconds_of(sides[name], ["-m", "estbench", words[0], folders[name], *words[1:]])
                        if pair:  # the first one warms up caches of files
                            seconds[name].append(taken)
                ratio = log_t_interval(np.divide(seconds["now"], seconds["earlier"]))
                medians = {name: f"{np.median(values):.2f} s" for name, values in seconds.items()}
                print(
                    f"{command}: {ratio.value:.2f} times (95 % {ratio.low:.2f} to {ratio.high:.2f}, n = {ratio.n}),"
                    f" median {medians['now']} now and {medians['earlier']} at {arguments.commit}"
                )
        finally:
            subprocess.run([*git, "remove", "--force", str(earlier)], check=True)


if __name__ == "__main__":
    main()
