"""How the signal-to-noise ratio of a gradient changes with the number of importance samples."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor

from estbench.estimators import create as create_estimator
from estbench.experiment import stream_seed
from estbench.measure import probe
from estbench.options import BaseOptions
from estbench.problems import Problem
from estbench.problems import create as create_problem
from estbench.randomness import seeded
from estbench.reproduce.measurements import Measured, measurement
from estbench.stats import log_t_interval, t_interval
from estbench.variant import Variant

Ratios = dict[str, list[float]]  # by group of weights, one for each K


class Sweep(BaseOptions):
    """The numbers of samples K, the least of them that counts for the slope, and the draws at each."""

    samples: tuple[int, ...] = Field(min_length=2)
    fit_from: int = 2
    replicates: int = Field(default=100, ge=3)


class Settings(BaseOptions):
    """``problem`` is a variant that takes ``importance_samples``; estimators are variants, each with its sweep."""

    problem: str = "linear_gaussian"
    seeds: int = Field(default=5, ge=3)
    batch_size: int = Field(default=32, ge=1)
    estimators: dict[str, Sweep]


@measurement("signal_to_noise", Settings)
def signal_to_noise(options: Settings) -> Measured:
    """SNR of the minibatch gradient of every group of weights against K, at initial weights.

    Quantities: the slope of log SNR on log K for each estimator and group, with a t interval over seeds, each of
    which has weights, a minibatch and noise of its own.
    """
    quantities, points = {}, []
    for variant, sweep in options.estimators.items():
        seeds = [ratios(options, variant, seed) for seed in range(options.seeds)]
        fitted = [place for place, count in enumerate(sweep.samples) if count >= sweep.fit_from]
        for group in seeds[0]:
            slopes = [
                slope([sweep.samples[place] for place in fitted], [found[group][place] for place in fitted])
                for found in seeds
            ]
            quantities[f"{variant}, {group}: slope"] = t_interval(slopes)
            for place, count in enumerate(sweep.samples):
                value, low, high, _ = log_t_interval([found[group][place] for found in seeds])
                points.append({"panel": group, "series": variant, "x": count, "value": value, "low": low, "high": high})
    return Measured(quantities, points, ("K", "signal-to-noise ratio"), (True, True))


def ratios(options: Settings, variant: str, seed: int) -> Ratios:
    """The SNR by group at every K of an estimator's sweep, at one seed's weights and minibatch."""
    sweep, estimator = options.estimators[variant], create_estimator(variant)
    found: Ratios = {}
    for count in sweep.samples:
        model = _model(options.problem, count, seed)
        batch = _minibatch(model, options.batch_size, seed)
        noise = stream_seed(seed, "probe", estimator=variant, K=count)
        moments = probe(model, estimator, batch, sweep.replicates, noise)
        for group in model.groups():
            found.setdefault(group, []).append(moments.value("weights", group, "snr"))
    return found


def slope(samples: ArrayLike, values: ArrayLike) -> float:
    """The exponent of a power law, by least squares on logarithms; NaN where a value is zero: too few draws."""
    if np.min(values) <= 0:
        return math.nan
    return float(np.polyfit(np.log(samples), np.log(values), 1)[0])


def _model(problem: str, count: int, seed: int) -> Problem:
    """The same weights at every K."""
    variant = Variant.parse(problem)
    with seeded(stream_seed(seed, "init"), torch.device("cpu")):
        return create_problem(Variant(variant.name, {**variant.options, "importance_samples": count}))


def _minibatch(model: Problem, size: int, seed: int) -> Tensor:
    """Training examples drawn without replacement, the same at every K."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "data"))
    rows = torch.randperm(len(model.data.train), generator=generator)[:size]
    return model.observe(torch.from_numpy(model.data.train)[rows], generator)
