"""Estimators that do harm, and what must be equal after every fault."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.store import ResultsFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Longer than anything takes on a machine that has other things to do.
LONG = 200
FAULTS = {
    "exits": "raise SystemExit('by itself')",
    "raises": "raise ValueError('broken on purpose')",
    "segfaults": "ctypes.string_at(0)",
    "hangs": "time.sleep(1000)",
    "holds-the-gil": "ctypes.PyDLL(None).sleep(1000)",
    "eats": "HOARD.append(bytearray(os.urandom(1024) * 50_000)); time.sleep(0.02)",
    "loads": "LOADED or LOADED.extend(DataLoader(range(4), batch_size=2, num_workers=1))",
    "slow": "time.sleep(0.02)",
    "waits": "while not os.path.exists(os.environ['GATE']): time.sleep(0.01)",
}
ESTIMATOR = """

@register("{name}")
class {cls}(Estimator):
    summary = "reparam, and worse"
    supports = {{"normal"}}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1

    def forward(self, objective):
        if self.training:
            {fault}
        return objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()
"""
HEAD = """
import ctypes
import os
import time

from torch.utils.data import DataLoader

from estbench.estimators import Estimator, register

HOARD = []
LOADED = []
"""
PLUGIN = HEAD + "".join(
    ESTIMATOR.format(name=name, cls=name.title().replace("-", ""), fault=fault) for name, fault in FAULTS.items()
)


def wait_for(what: Callable[[], Any], seconds: float = LONG) -> Any:
    """What is there as soon as it is there."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def bits(path: Path) -> dict[str, Any]:
    """Each finished cell's record and tables, without seconds, dates and provenance: what no fault may change."""
    folder = ResultsFolder(path)
    found = {}
    for cell in folder.read_plan()["cells"]:
        record = folder.read_record(cell["folder"])
        if record is None:
            continue
        for wall_clock in ("clocks", "started", "finished", "execution"):
            del record[wall_clock]
        for of_the_source in ("commit", "uncommitted"):  # which somebody may edit meanwhile
            del record["environment"][of_the_source]
        home = folder.cells / cell["folder"]
        found[cell["folder"]] = {
            **record,
            "curves": pd.read_parquet(home / "curves.parquet").drop(columns="seconds").to_json(double_precision=15),
            "gradients": pd.read_parquet(home / "gradients.parquet").to_json(double_precision=15),
        }
    return found


def statuses(path: Path) -> dict[str, str]:
    """The status of each planned cell by its estimator and seed."""
    folder = ResultsFolder(path)
    return {
        f"{cell['estimator']['label']}-{cell['seed']}": str(folder.status(cell["folder"]) or "missing")
        for cell in folder.read_plan()["cells"]
    }


def logs(path: Path) -> dict[str, str]:
    """Each cell's log, of those that run, too."""
    return {
        log.parent.name.removeprefix(".").removesuffix(".partial"): log.read_text()
        for log in path.glob("cells/*/log.txt")
    } | {
        log.parent.name.removeprefix(".").removesuffix(".partial"): log.read_text()
        for log in path.glob("cells/.*.partial/log.txt")
    }


def tries(path: Path) -> dict[str, int]:
    """How often each cell was begun, by its estimator and seed; nothing before there is a plan."""
    if not ResultsFolder(path).plan_file.exists():
        return {}
    found = logs(path)
    return {
        f"{cell['estimator']['label']}-{cell['seed']}": found.get(cell["folder"], "").count("begins on")
        for cell in ResultsFolder(path).read_plan()["cells"]
    }


def nothing_left(path: Path) -> bool:
    """Whether no lock, marker, workspace or temporary file is left in a results folder."""
    return not [*path.rglob(".*")]
