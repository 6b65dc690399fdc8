"""Run a part of a stranger's runs again, and compare."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import stdtrit

from estbench.devices import deterministic
from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS
from estbench.experiment import Cell
from estbench.experiment.plan import cell_from_record
from estbench.failures import described, is_stop
from estbench.guarded import GuardedPath
from estbench.measure import Clocks, describe_environment
from estbench.problems import PROBLEMS
from estbench.randomness import seeded
from estbench.registry import Registry
from estbench.store import Results, Status
from estbench.store.tables import CURVES
from estbench.training import State
from estbench.training.isolation import isolated, seed_generators
from estbench.training.loop import train
from estbench.training.state import noise_seed

# Where these agree, a run has the same bits.
SAME_BITS = ("estbench", "commit", "torch", "threads", "device", "device_name", "processor")
# A value of another machine lies in the prediction interval of the other seeds: a false alarm in a thousand values.
PREDICTION = 0.999
# With fewer other seeds there is no such interval, and values agree to this part.
FEWEST, RELATIVE = 3, 0.01
KEY = ["step", "split", "metric"]


@dataclass(frozen=True)
class Repeated:
    """A run that was repeated up to a step, and what came of it.

    ``verdict`` is "same bits", "within the spread of its seeds", "differs" or "not repeated"; ``reason`` says why.
    """

    estimator: str
    problem: str
    seed: int
    step: int
    verdict: str
    reason: str = ""

    @property
    def refused(self) -> bool:
        """Whether it speaks against the records."""
        return self.verdict == DIFFERS


SAME, WITHIN, DIFFERS, NOT_REPEATED = "same bits", "within the spread of its seeds", "differs", "not repeated"


def choose_sample(results: Results) -> list[dict[str, Any]]:
    """Return the planned cells that are repeated: the lowest seed of each estimator on each problem that is done."""
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    done = [cell for cell in results.plan["cells"] if _status(results, cell) == Status.DONE]
    for cell in sorted(done, key=lambda cell: cell["seed"]):
        chosen.setdefault((cell["problem"]["label"], cell["estimator"]["label"]), cell)
    return list(chosen.values())


def repeat(
    results: Results, recorded: dict[str, Any], steps: int, interrupted: Callable[[], bool] = lambda: False
) -> Repeated:
    """Run a cell again up to its last evaluation within so many steps, on the CPU, and compare the curves.

    Its first steps do not depend on how many follow. Nothing is written into the results.
    """
    cell = cell_from_record(recorded)
    stop = max(step for step in cell.evaluation.steps(cell.training.steps) if step <= max(steps, 0))
    about = (cell.estimator.label, cell.problem.label, cell.seed, stop)
    unknown = _why_unknown(cell)
    if unknown:
        return Repeated(*about, NOT_REPEATED, unknown)
    device = torch.device("cpu")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            environment, rows = _run(cell, device, stop, GuardedPath(Path(scratch)) / "checkpoint.pt", interrupted)
    except BaseException as error:
        if is_stop(error, interrupted):
            raise
        return Repeated(*about, NOT_REPEATED, described(error))
    theirs = results.home(recorded["folder"]).table("curves.parquet", CURVES).to_pandas()
    ours = pd.DataFrame(rows, columns=CURVES.names)
    theirs = theirs[theirs["step"] <= stop].set_index(KEY)["value"].astype(float).sort_index()
    values = ours[ours["step"] <= stop].set_index(KEY)["value"].astype(float).sort_index()
    if not values.index.equals(theirs.index):
        return Repeated(*about, DIFFERS, "the curves have other rows")
    if np.array_equal(values.to_numpy(), theirs.to_numpy()):
        return Repeated(*about, SAME)
    there = results.records[recorded["folder"]].get("environment", {})
    apart = [name for name in SAME_BITS if there.get(name) != environment.get(name)]
    if not apart:
        worst = (values - theirs).abs().idxmax()
        return Repeated(*about, DIFFERS, f"same machine and versions, other bits: {_say(worst, values, theirs)}")
    outside = _find_outside(results, recorded, values, stop)
    reason = f"other {', '.join(apart)}"
    if outside is not None:
        return Repeated(*about, DIFFERS, f"{reason}, and {_say(outside, values, theirs)}")
    return Repeated(*about, WITHIN, reason)


def _run(
    cell: Cell, device: torch.device, stop: int, checkpoint: GuardedPath, interrupted: Callable[[], bool]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train up to a step as ``run_cell`` does, without the shared probe; return the environment and the curves."""
    with deterministic(device), seeded(noise_seed(cell), device), isolated():
        seed_generators(noise_seed(cell))
        environment = describe_environment(device)
        state = State(cell, device)
        train(
            state,
            Clocks(device),
            checkpoint,
            checkpoint_seconds=math.inf,
            interrupted=lambda: state.step >= stop or interrupted(),
            on_step=lambda _step: None,
        )
    return environment, state.curves


def _why_unknown(cell: Cell) -> str:
    """Return why this installation cannot run a cell: it has no such estimator or problem, or another source of it."""
    registries: Iterable[tuple[Registry[Any], Any]] = ((ESTIMATORS, cell.estimator), (PROBLEMS, cell.problem))
    for registry, part in registries:
        try:
            here = registry.resolve(part.label)
        except EstbenchError as error:
            return f"{error}; give its file with --plugin"
        if (here.version, here.source) != (part.version, part.source):
            return f"the {registry.kind} '{part.name}' has another source or version here"
    return ""


def _find_outside(results: Results, recorded: dict[str, Any], values: pd.Series[float], stop: int) -> Any:
    """Return the first quantity whose new value is outside the prediction interval of all seeds; None if none is."""
    others = [
        results.home(cell["folder"]).table("curves.parquet", CURVES).to_pandas()
        for cell in results.plan["cells"]
        if cell["estimator"] == recorded["estimator"]
        and cell["problem"] == recorded["problem"]
        and cell["training"] == recorded["training"]
        and _status(results, cell) == Status.DONE
    ]
    frame = pd.concat(others)
    frame = frame[frame["step"] <= stop]
    spread = frame.groupby(KEY)["value"].agg(["mean", "std", "count"]).reindex(values.index)
    n = spread["count"].to_numpy(float)
    t = stdtrit(np.maximum(n - 1, 1), (1 + PREDICTION) / 2)
    allowed = np.where(
        n >= FEWEST, t * spread["std"].to_numpy(float) * np.sqrt(1 + 1 / n), RELATIVE * spread["mean"].abs().to_numpy()
    )
    allowed = np.maximum(allowed, RELATIVE * spread["mean"].abs().to_numpy())
    outside = (values - spread["mean"]).abs().to_numpy() > allowed
    return values.index[outside][0] if outside.any() else None


def _say(at: Any, values: pd.Series[float], theirs: pd.Series[float]) -> str:
    step, split, metric = at
    return f"the {split} {metric} at step {step} is {values[at]:.6g} here and {theirs[at]:.6g} there"


def _status(results: Results, cell: dict[str, Any]) -> str:
    return str(results.records.get(cell["folder"], {}).get("status", ""))
