"""Bounds that mean-field normal inference reaches on eight schools, in both parametrizations."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from estbench.estimators import ESTIMATORS
from estbench.experiment import Experiment, make_plan, stream_seed
from estbench.measure import evaluate_elbo
from estbench.options import BaseOptions, validated
from estbench.problems import PROBLEMS
from estbench.reproduce import StudyResult, figure_point, study
from estbench.stats import Interval, paired_difference, t_interval
from estbench.training import start_run, take_steps

KINDS = ("noncentered", "centered")
# Independent copies of the data set, and draws for each, in an evaluation of the bound.
COPIES, DRAWS = 100, 1000


class EightSchoolsOptions(BaseOptions):
    """Protocol of the training."""

    estimator: str = "reparam"
    checkpoints: tuple[int, ...] = Field(min_length=1)
    batch_size: int = Field(default=10, ge=1, description="estimates that are averaged in a step")
    learning_rate: float = Field(default=1e-2, gt=0)
    seeds: int = Field(default=5, ge=3)


@study(EightSchoolsOptions)
def eight_schools(options: EightSchoolsOptions) -> StudyResult:
    """Train q in both parametrizations, and compare the bounds with each other and with log p(y).

    Quantities: the gap log p(y) - L of each at the last checkpoint, in nats; the gap of the centered one less that of
    the other, paired by seed; and the standard deviation of log tau in q over that of the posterior, for each.
    """
    gaps: dict[tuple[str, int], list[float]] = {}
    ratios: dict[str, list[float]] = {kind: [] for kind in KINDS}
    last = max(options.checkpoints)
    for kind in KINDS:
        experiment = {
            "estimators": [options.estimator],
            "problems": [f"eight_schools[parametrization={kind}]"],
            "seeds": options.seeds,
            "training": {
                "steps": last,
                "batch_size": options.batch_size,
                "learning_rate": options.learning_rate,
            },
        }
        plan = make_plan(validated(Experiment, experiment, "the run"), ESTIMATORS.resolve, PROBLEMS.resolve)
        for cell in plan:
            with start_run(cell) as run:
                problem: Any = run.problem
                reference = problem.posterior_moments()
                for step in sorted(options.checkpoints):
                    take_steps(run, step - run.step)
                    x = torch.zeros(COPIES, 1, device=problem.device)
                    elbo = evaluate_elbo(problem, x, DRAWS, stream_seed(cell.seed, "evaluation")).elbo
                    gaps.setdefault((kind, step), []).append(reference.log_evidence - elbo)
                ratios[kind].append(float(problem(x[:1]).q.stddev[0, 1].detach()) / float(reference.sd[1]))
    quantities: dict[str, Interval] = {f"gap, {kind}": t_interval(gaps[kind, last]) for kind in KINDS}
    quantities["gap, centered less noncentered"] = paired_difference(gaps["centered", last], gaps["noncentered", last])
    quantities |= {f"sd of log tau, {kind} / posterior": t_interval(ratios[kind]) for kind in KINDS}
    points = [figure_point("gap", kind, step, t_interval(values)) for (kind, step), values in gaps.items()]
    return StudyResult(quantities, points, ("training steps", "log p(y) less the bound, nats"), (True, True))
