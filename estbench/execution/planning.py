"""A plan that is checked before anything runs, and the order of its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS, check_supports, create_for
from estbench.experiment import Cell, Experiment, Plan, find_experiment, make_plan, read_experiment
from estbench.experiment.spec import experiment_from
from estbench.experiment.training import Training
from estbench.failures import is_stop, mistakes_of
from estbench.measure import METRICS
from estbench.plugins import PREFIX, load_plugin
from estbench.problems import PROBLEMS
from estbench.problems import create as create_problem
from estbench.randomness import kept_random_state
from estbench.registry import Registry, Resolved
from estbench.training import State, check_probe
from estbench.training.isolation import isolated
from estbench.training.schedules import check_schedules
from estbench.variant import Variant


def as_experiment(experiment: str | Path | Mapping[str, Any] | Experiment) -> Experiment:
    """Return the experiment that a path, a name or plain data stands for."""
    if isinstance(experiment, Experiment):
        return experiment
    if isinstance(experiment, Mapping):
        return experiment_from(dict(experiment))
    return read_experiment(find_experiment(str(experiment)))


def plan_of(experiment: Experiment) -> Plan:
    """Return the plan; raise ``EstbenchError`` if a name or an option is wrong, or a pair is impossible."""
    with isolated():
        plan = make_plan(experiment, _resolver(ESTIMATORS), _resolver(PROBLEMS), _resolver(METRICS))
        for estimator, problem in plan.pairs():
            with mistakes_of(f"'{estimator.label}' on '{problem.label}'"):
                check_pair(estimator, problem)
        for cell in {id(cell.problem): cell for cell in plan}.values():
            check_probe(cell)
        ESTIMATORS.resolve(experiment.throughput.reference)
    return plan


def _resolver(registry: Registry[Any]) -> Callable[[str], Resolved]:
    def resolve(variant: str) -> Resolved:
        with mistakes_of(f"{registry.kind} '{variant}'"):
            return registry.resolve(variant)

    return resolve


def check_pair(estimator: Resolved, problem: Resolved) -> None:
    """Refuse an estimator that does not support the latents or the bound that the problem declares."""
    options = PROBLEMS.options(Variant(problem.name, problem.options))
    own = ESTIMATORS.options(Variant(estimator.name, estimator.options))
    check_supports(ESTIMATORS.get(estimator.name), PROBLEMS.get(problem.name), options, own)


def load_isolated(plugin: str | Path) -> list[str]:
    """Load a plugin, set back what its import changed in torch, and return the names of that."""
    with isolated(importing=True) as left, mistakes_of(f"plugin '{plugin}'"):
        load_plugin(plugin)
    return left


def load_plugins(plugins: Iterable[Path]) -> None:
    """Load plugins in a process that computes cells; the run has already reported what they change."""
    for plugin in plugins:
        load_isolated(plugin)


def check_parts(plan: Plan, interrupted: Callable[[], bool]) -> dict[str, int]:
    """Build each problem once, and each estimator for it, to find errors before anything is written.

    An estimator that raises something else than ``EstbenchError`` fails only its own cells. Return the number of
    training examples by the problem's label.
    """
    wanted: dict[tuple[str, float], dict[str, Cell]] = {}
    for cell in plan:
        wanted.setdefault((cell.problem.label, _first_weight(cell.training)), {})[cell.estimator.label] = cell
    sizes = {}
    for (label, kl_weight), cells in wanted.items():
        first = next(iter(cells.values()))
        with isolated(), kept_random_state():
            with mistakes_of(f"problem '{label}' cannot be built"):
                problem = create_problem(Variant(first.problem.name, first.problem.options))
                sizes[label] = len(problem.data.train)
            problem.kl_weight = kl_weight
            named = [Variant(cell.estimator.name, cell.estimator.options) for cell in cells.values()]
            probing = [Variant.parse(name) for name in (first.probe.shared, first.probe.reference) if name]
            built = []
            for variant in (*named, *(each for each in probing if each.name != "exact")):
                try:
                    built.append(create_for(variant, problem))
                except EstbenchError:
                    raise
                except BaseException as error:
                    if is_stop(error, interrupted):
                        raise
            check_schedules(first.training, built)
    return sizes


def _first_weight(training: Training) -> float:
    """Return the first weight of the KL that is not 1; 1 if it has none."""
    weights = [training.kl_weight_at(step) for step in (0, training.steps // 2, training.steps)]
    return next((weight for weight in weights if weight != 1), 1.0)


def whole_batches(plan: Plan, training_examples: Mapping[str, int]) -> list[str]:
    """Return a remark for each problem whose minibatch is its whole training set, because more was asked for."""
    asked = {(cell.problem.label, cell.training.batch_size) for cell in plan}
    return [
        f"a minibatch of {problem} is all {training_examples[problem]:,} training examples: "
        f"training.batch_size is {size:,}"
        for problem, size in sorted(asked)
        if size > training_examples[problem]
    ]


def unused_metrics(plan: Plan) -> list[str]:
    """Return a hint for each metric of a plugin that the experiment does not measure."""
    unused = [name for name in METRICS.names() if name not in plan.experiment.evaluation.metrics]
    return [
        f"the metric '{name}' of the plugin is not measured; add it with --metric {name}, or to evaluation.metrics"
        for name in unused
        if METRICS.get(name).__module__.startswith(PREFIX)
    ]


# A gradient step runs the model forwards and backwards, a bound only forwards.
BACKWARD = 3
SPLITS = 3


def longest_first(cells: Iterable[Cell], interrupted: Callable[[], bool] = lambda: False) -> list[Cell]:
    """Sort cells by their estimated cost, so that no long one begins last; equal costs keep the order of the plan."""
    known: dict[tuple[str, str], tuple[int, int]] = {}

    def cost(cell: Cell) -> float:
        pair = (cell.problem.label, cell.estimator.label)
        if pair not in known:
            known[pair] = _size(cell, interrupted)
        weights, evaluations = known[pair]
        training, evaluation, probe = cell.training, cell.evaluation, cell.probe
        gradients = (training.steps + probe.points * probe.replicates) * training.batch_size * evaluations * BACKWARD
        bounds = len(evaluation.steps(training.steps)) * SPLITS * evaluation.examples * evaluation.num_samples
        return weights * (gradients + bounds)

    return sorted(cells, key=cost, reverse=True)


def _size(cell: Cell, interrupted: Callable[[], bool]) -> tuple[int, int]:
    """Return the number of weights, and evaluations of f per example; (1, 1) if the estimator cannot be built."""
    try:
        with isolated(), kept_random_state():
            state = State(cell, torch.device("cpu"))
            return sum(weight.numel() for weight in state.problem.parameters()), state.evaluations_per_example
    except BaseException as error:
        if is_stop(error, interrupted):
            raise
        return 1, 1
