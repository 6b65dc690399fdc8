"""Quantities that change along training: the weight of the KL, and the temperature of relaxed estimators."""

from __future__ import annotations

from collections.abc import Iterable

from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS, Estimator
from estbench.experiment.training import Training
from estbench.problems import Problem

TEMPERATURE = "temperature"


def set_scheduled(training: Training, step: int, problem: Problem, estimator: Estimator) -> None:
    """Set what training at step 0, 1, ... is under; it stays until the next step, and so holds for a probe too."""
    if training.weights_kl:
        problem.kl_weight = training.kl_weight_at(step)
    if training.temperature is not None:
        for each in estimator.modules():
            if isinstance(each, Estimator) and TEMPERATURE in each.scheduled:
                each.options = each.options.model_copy(update={TEMPERATURE: training.temperature.at(step)})


def check_schedules(training: Training, estimators: Iterable[Estimator]) -> None:
    """Raise ``EstbenchError`` for a temperature that no estimator takes, or that one was given as an option too."""
    if training.temperature is None:
        return
    takers = [
        each
        for estimator in estimators
        for each in estimator.modules()
        if isinstance(each, Estimator) and TEMPERATURE in each.scheduled
    ]
    if not takers:
        able = ", ".join(name for name in ESTIMATORS.names() if TEMPERATURE in ESTIMATORS.get(name).scheduled)
        raise EstbenchError(
            f"training.temperature is a schedule, and no estimator has such a temperature; take one of {able}"
        )
    for each in takers:
        if each.options.temperature != type(each.options).model_fields[TEMPERATURE].default:
            raise EstbenchError(
                f"'{each}' sets its temperature, and training.temperature is a schedule of it; drop one of the two"
            )
