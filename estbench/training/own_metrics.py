"""The metrics that an experiment names, measured along a run.

They may be anybody's code, so none of them can lose or change a run. One that raises or returns no numbers is left out
from then on, with a remark; what it changes of the models, of random states and of the process is put back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from estbench.experiment import Cell, stream_seed
from estbench.failures import described
from estbench.measure import describe_metric, evaluate_metric, splits_of
from estbench.training.isolation import isolated, seed_generators
from estbench.training.state import State

# A remark that begins with these words ends the metric's part in the run, also after it was resumed.
LEFT_OUT = "is left out from step"


class MetricValue(NamedTuple):
    """One number of a metric; NaN if it was not finite."""

    split: str
    metric: str
    value: float


def measure_metrics(state: State, observations: Mapping[str, Tensor]) -> Iterator[MetricValue]:
    """Measure the metrics of a run at its weights, on the observations of each split, (N, X).

    The draws of a metric are the same for every estimator and at every step.
    """
    for name in state.cell.evaluation.metrics:
        for split in splits_of(name):
            if _is_left_out(state, name):
                break
            for metric, value in _measure(state, name, split, observations[split]).items():
                if not math.isfinite(value):
                    state.remark(_shown(name), f"is not finite on the {split} split; such values count as missing")
                yield MetricValue(split, metric, value if math.isfinite(value) else math.nan)


def describe_metrics(cell: Cell) -> dict[str, dict[str, Any]]:
    """Return the facts that a report needs about the metrics of a run, by name."""
    facts = {name: describe_metric(name) for name in cell.evaluation.metrics}
    return {
        name: {fact: found[fact] for fact in ("label", "unit", "better", "splits", "summary")}
        for name, found in facts.items()
    }


def _measure(state: State, name: str, split: str, x: Tensor) -> dict[str, float]:
    """Return the numbers of a metric by what they are recorded as; none, with a remark, if it fails."""
    seed = stream_seed(state.cell.seed, "evaluation", split=split, metric=name)
    values: dict[str, float] = {}
    with isolated() as changed:
        seed_generators(seed)
        try:
            values = evaluate_metric(name, state.problem, state.estimator, x, seed)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  (code of a plugin)
            state.remark(_shown(name), f"{LEFT_OUT} {state.step} on: {described(error)}")
    for setting in changed:
        state.remark(_shown(name), f"changed {setting}, which was put back")
    return values


def _is_left_out(state: State, name: str) -> bool:
    return any(row["measurement"] == _shown(name) and row["message"].startswith(LEFT_OUT) for row in state.remarks)


def _shown(name: str) -> str:
    return f"metric '{name}'"
