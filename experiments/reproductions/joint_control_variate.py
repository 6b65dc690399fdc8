"""The two kinds of noise of a gradient in Bayesian logistic regression, and what control variates leave of each."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from estbench import estimators, measure, problems
from estbench.estimators import Estimator
from estbench.experiment import stream_seed
from estbench.options import BaseOptions
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.reproduce import Panel, StudyResult, figure_point, study
from estbench.stats import Interval, log_t_interval, paired_ratio

KINDS = ("draws", "minibatches", "both")
RATIO = Panel(label="share that is left", log=True, level=1.0, level_name="nothing is taken away")
Noise = dict[str, float]  # by kind


class JointControlVariateOptions(BaseOptions):
    """Protocol of the training by ``trained_with``, and what is measured at the end of it.

    ``batch_size`` minibatches are averaged in a step, and in a probe ``probed`` of them.
    """

    problem: str
    trained_with: str = "reparam"
    steps: int = Field(default=600, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    seeds: int = Field(default=5, ge=3)
    probed: int = Field(default=64, ge=3)
    replicates: int = Field(default=100, ge=10)
    estimators: tuple[str, ...]
    compare: tuple[tuple[str, str], ...]


@study(JointControlVariateOptions)
def joint_control_variate(options: JointControlVariateOptions) -> StudyResult:
    """Measure the variance of a minibatch gradient from the draws, from the minibatches, and from both together.

    All estimators see the same minibatches along the same training, and keep their state of it. Quantities, by kind of
    noise and pair: the ratio, with a t interval over seeds of its logarithm.
    """
    found: dict[str, list[Noise]] = {variant: [] for variant in options.estimators}
    for seed in range(options.seeds):
        for variant, noise in _run(options, seed).items():
            found[variant].append(noise)
    quantities: dict[str, Interval] = {}
    points = []
    for place, kind in enumerate(KINDS):
        values = {variant: [noise[kind] for noise in runs] for variant, runs in found.items()}
        for first, second in options.compare:
            ratio = paired_ratio(values[first], values[second])
            quantities[f"{kind}: {first} / {second}"] = ratio
            points.append(figure_point("ratio", f"{first} / {second}", place, ratio))
        points += [figure_point("variance", variant, place, log_t_interval(each)) for variant, each in values.items()]
    axes = ("noise of the draws (0), of the minibatches (1), of both (2)", "variance of the gradient")
    return StudyResult(quantities, points, axes, (False, True), {"ratio": RATIO})


def _run(options: JointControlVariateOptions, seed: int) -> dict[str, Noise]:
    """Train once, and return the noise of each estimator at the end."""
    problem = problems.create(options.problem)
    generator = torch.Generator().manual_seed(stream_seed(seed, "data"))
    rows = torch.from_numpy(problem.data.train)
    trainer = estimators.create(options.trained_with)
    watched = {
        variant: estimators.make_ready(estimators.create(variant), problem(rows[:2])).train()
        for variant in options.estimators
    }
    optimizer = torch.optim.Adam(problem.parameters(), lr=options.learning_rate, maximize=True)
    with seeded(stream_seed(seed, "noise"), torch.device("cpu")):
        for step in range(options.steps):
            # The rate falls along a quarter of a cosine.
            optimizer.param_groups[0]["lr"] = options.learning_rate * math.cos(math.pi / 2 * step / options.steps)
            x = rows[torch.randint(len(rows), (options.batch_size,), generator=generator)]
            _see(watched, problem, x)
            optimizer.zero_grad()
            trainer(problem(x)).mean().backward()
            optimizer.step()
    x = rows[torch.randperm(len(rows), generator=generator)[: options.probed]]
    return {variant: _noise(options, problem, estimator, x, seed) for variant, estimator in watched.items()}


def _see(watched: dict[str, Estimator], problem: Problem, x: torch.Tensor) -> None:
    """Let each estimator with a state take a step, whose gradient nobody uses."""
    for estimator in watched.values():
        if any(True for _ in estimator.buffers()):
            estimator(problem(x))


def _noise(
    options: JointControlVariateOptions, problem: Problem, estimator: Estimator, x: torch.Tensor, seed: int
) -> Noise:
    """Return the variances of the mean gradient of the probed minibatches."""
    moments = measure.probe(problem, estimator, x, options.replicates, stream_seed(seed, "probe"))
    draws, minibatches = (moments.value("weights", "encoder", name) for name in ("variance", "data_variance"))
    return {"draws": draws, "minibatches": minibatches, "both": draws + minibatches}
