"""ReinMax with Gumbel noise in its Jacobian, against ReinMax: variance, and bias against the exact gradient."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from estbench import estimators, problems
from estbench.experiment import stream_seed
from estbench.measure import exact_reference, probe
from estbench.options import BaseOptions
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.reproduce import StudyResult, figure_point, study
from estbench.stats import Interval, log_t_interval, paired_ratio, t_interval

BATCH = 64  # of training
RATE = 2e-3  # of Adam


class ReinMaxRaoOptions(BaseOptions):
    """``steps`` of training with ``reinmax`` before each measurement; ``temperatures`` of the Gumbel softmax."""

    problem: str
    steps: tuple[int, ...] = Field(min_length=1)
    temperatures: tuple[float, ...] = Field(min_length=1)
    draws: int = Field(default=32, ge=1)
    seeds: int = Field(default=5, ge=3)
    examples: int = Field(default=16, ge=1)
    replicates: int = Field(default=500, ge=10)


@study(ReinMaxRaoOptions)
def reinmax_rao(options: ReinMaxRaoOptions) -> StudyResult:
    """Measure the gradient of the encoder's weights along a run of ``reinmax``, with both at the same places.

    Quantities, by temperature t and step, over seeds with a run each: the ratio of the variances; the ratio of the
    relative variances, each over the squared norm of its mean; and the difference of the squared biases, over the
    squared norm of the exact gradient.
    """
    variants = {
        t: f"reinmax[draws={options.draws},gumbel_temperature={float(t)}]" for t in sorted(options.temperatures)
    }
    places = [measure(options, variants, seed) for seed in range(options.seeds)]
    quantities: dict[str, Interval] = {}
    points = []
    for step in options.steps:
        for t, variant in variants.items():
            plain, smooth = ([place[step][name] for place in places] for name in ("reinmax", variant))
            ratio = paired_ratio([each["variance"] for each in smooth], [each["variance"] for each in plain])
            relative = paired_ratio([each["relative"] for each in smooth], [each["relative"] for each in plain])
            bias = t_interval([after["bias"] - before["bias"] for after, before in zip(smooth, plain, strict=True)])
            where = f"t = {t:g}, step {step}"
            quantities |= {
                f"{where}: variance / ReinMax's": ratio,
                f"{where}: relative variance / ReinMax's": relative,
                f"{where}: squared bias more than ReinMax's": bias,
            }
            line = f"step {step}"
            points += [
                figure_point("variance / ReinMax's", line, t, ratio),
                figure_point("relative variance / ReinMax's", line, t, relative),
                figure_point("squared bias", line, t, log_t_interval([max(each["bias"], 1e-9) for each in smooth])),
            ]
    return StudyResult(quantities, points, ("t", "ratio"), (False, True))


def measure(
    options: ReinMaxRaoOptions, variants: dict[float, str], seed: int
) -> dict[int, dict[str, dict[str, float]]]:
    """Return by step and estimator the variance, the same over |mean|^2, and |bias|^2 over |exact gradient|^2."""
    with seeded(stream_seed(seed, "init"), torch.device("cpu")):
        model = problems.create(options.problem)
    generator = torch.Generator().manual_seed(stream_seed(seed, "data"))
    rows = torch.randperm(len(model.data.train), generator=generator)[: options.examples]
    batch = model.observe(torch.from_numpy(model.data.train)[rows], generator)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    found: dict[int, dict[str, dict[str, float]]] = {}
    done = 0
    for step in sorted(options.steps):
        with seeded(stream_seed(seed, "noise", step=step), torch.device("cpu")):
            for _ in range(step - done):
                train_step(model, optimizer, generator)
        done = step
        reference = exact_reference(model, batch)
        exact = sum(float(each.square().sum()) for each in exact_gradient(model, batch))
        found[step] = {}
        for variant in ("reinmax", *variants.values()):
            noise = stream_seed(seed, "probe", estimator=variant, step=step)
            moments = probe(model, estimators.create(variant), batch, options.replicates, noise, reference=reference)
            variance, mean, bias = (
                moments.value("weights", "encoder", name) for name in ("variance", "mean_norm2", "bias2")
            )
            found[step][variant] = {
                "variance": variance,
                "relative": variance / mean if mean > 0 else math.nan,
                "bias": bias / exact,
            }
    return found


def train_step(model: Problem, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
    """Take one step of Adam with ``reinmax``."""
    rows = torch.randint(len(model.data.train), (BATCH,), generator=generator)
    x = model.observe(torch.from_numpy(model.data.train)[rows], generator)
    optimizer.zero_grad()
    (-estimators.create("reinmax")(model(x)).mean()).backward()
    optimizer.step()


def exact_gradient(model: Problem, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the exact gradient of the encoder's weights: a sum over all values of the latents."""
    return torch.autograd.grad(model(batch).exact().mean(), model.groups()["encoder"])
