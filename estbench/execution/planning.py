"""From what names an experiment to a plan that is known to be possible, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from estbench import estimators, problems
from estbench.errors import EstbenchError, described
from estbench.experiment import Experiment, Plan, find_experiment, make_plan, read_experiment
from estbench.experiment.spec import experiment_from
from estbench.registry import Resolved
from estbench.training import check_probe
from estbench.variant import Variant


def as_experiment(experiment: str | Path | Mapping[str, Any] | Experiment) -> Experiment:
    """An experiment from whatever names it."""
    if isinstance(experiment, Experiment):
        return experiment
    if isinstance(experiment, Mapping):
        return experiment_from(dict(experiment))
    return read_experiment(find_experiment(str(experiment)))


def plan_of(experiment: Experiment) -> Plan:
    """The plan, once every name and option in it is known to be right and every pair to be possible."""
    plan = make_plan(experiment, estimators.REGISTRY.resolve, problems.REGISTRY.resolve)
    for estimator, problem in plan.pairs():
        check_pair(estimator, problem)
    for cell in {id(cell.problem): cell for cell in plan}.values():
        check_probe(cell)
    estimators.REGISTRY.resolve(experiment.throughput.reference)
    return plan


def check_pair(estimator: Resolved, problem: Resolved) -> None:
    """Refuse a problem whose latents or bound the estimator does not do."""
    options = problems.REGISTRY.options(Variant(problem.name, problem.options))
    estimators.check_supports(estimators.REGISTRY.get(estimator.name), problems.REGISTRY.get(problem.name), options)


def check_problems(plan: Plan) -> dict[str, int]:
    """Build each problem once: what it lacks (its data, say) is found before anything is written.

    Returns the number of training examples by the problem's label.
    """
    with torch.random.fork_rng([]):
        return {
            label: len(_built(problem).data.train)
            for label, problem in {cell.problem.label: cell.problem for cell in plan}.items()
        }


def _built(problem: Resolved) -> problems.Problem:
    try:
        return problems.create(Variant(problem.name, problem.options))
    except EstbenchError:
        raise
    except Exception as error:
        raise EstbenchError(f"problem '{problem.label}' cannot be built: {described(error)}") from error


def check_estimators(plan: Plan) -> None:
    """Build each estimator once, for the same reason; one that raises anything else fails its own cells."""
    with torch.random.fork_rng([]):
        for estimator in {cell.estimator.label: cell.estimator for cell in plan}.values():
            try:
                estimators.create(Variant(estimator.name, estimator.options))
            except EstbenchError:
                raise
            except Exception:  # noqa: BLE001, S112  (anybody's code; the cell's record will tell)
                continue


def whole_batches(plan: Plan, training_examples: Mapping[str, int]) -> list[str]:
    """A line for each problem whose minibatch is all of its training examples, because more were asked for."""
    asked = {(cell.problem.label, cell.training.batch_size) for cell in plan}
    return [
        f"a minibatch of {problem} is all {training_examples[problem]:,} training examples: "
        f"training.batch_size is {size:,}"
        for problem, size in sorted(asked)
        if size > training_examples[problem]
    ]
