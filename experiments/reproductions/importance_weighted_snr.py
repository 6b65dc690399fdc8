"""The signal-to-noise ratio of a gradient against the number of importance samples."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor

from estbench import estimators, problems
from estbench.experiment import stream_seed
from estbench.measure import probe
from estbench.options import BaseOptions
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.reproduce import StudyResult, figure_point, study
from estbench.stats import log_t_interval, t_interval

Ratios = dict[str, list[float]]  # by group of weights, one for each K


class SweepOptions(BaseOptions):
    """The numbers of samples K, the smallest of them that counts for the slope, and the draws at each."""

    samples: tuple[int, ...] = Field(min_length=2)
    fit_from: int = 2
    replicates: int = Field(default=100, ge=3)


class ImportanceWeightedSnrOptions(BaseOptions):
    """``problem`` is the name of one that takes ``importance_samples``; each estimator, a variant, has its sweep."""

    problem: str = "linear_gaussian"
    seeds: int = Field(default=5, ge=3)
    batch_size: int = Field(default=32, ge=1)
    estimators: dict[str, SweepOptions]


@study(ImportanceWeightedSnrOptions)
def importance_weighted_snr(options: ImportanceWeightedSnrOptions) -> StudyResult:
    """Measure the SNR of the minibatch gradient of every group of weights against K, at initial weights.

    Quantities: the slope of log SNR on log K for each estimator and group, with a t interval over seeds, each of
    which has weights, a minibatch and noise of its own.
    """
    quantities, points = {}, []
    for variant, sweep in options.estimators.items():
        seeds = [measure_ratios(options, variant, seed) for seed in range(options.seeds)]
        fitted = [index for index, count in enumerate(sweep.samples) if count >= sweep.fit_from]
        for group in seeds[0]:
            slopes = [
                fit_slope([sweep.samples[index] for index in fitted], [ratios[group][index] for index in fitted])
                for ratios in seeds
            ]
            quantities[f"{variant}, {group}: slope"] = t_interval(slopes)
            for index, count in enumerate(sweep.samples):
                interval = log_t_interval([ratios[group][index] for ratios in seeds])
                points.append(figure_point(group, variant, count, interval))
    return StudyResult(quantities, points, ("K", "signal-to-noise ratio"), (True, True))


def measure_ratios(options: ImportanceWeightedSnrOptions, variant: str, seed: int) -> Ratios:
    """Return the SNR by group at every K of an estimator's sweep, at one seed's weights and minibatch."""
    sweep, estimator = options.estimators[variant], estimators.create(variant)
    ratios: Ratios = {}
    for count in sweep.samples:
        model = build_model(options.problem, count, seed)
        batch = draw_minibatch(model, options.batch_size, seed)
        noise = stream_seed(seed, "probe", estimator=variant, K=count)
        moments = probe(model, estimator, batch, sweep.replicates, noise)
        for group in model.groups():
            ratios.setdefault(group, []).append(moments.value("weights", group, "snr"))
    return ratios


def fit_slope(samples: ArrayLike, values: ArrayLike) -> float:
    """Return the exponent of a power law, by least squares on logarithms; NaN if a value is zero: too few draws."""
    if np.min(values) <= 0:
        return math.nan
    return float(np.polyfit(np.log(samples), np.log(values), 1)[0])


def build_model(problem: str, count: int, seed: int) -> Problem:
    """Return the problem at this seed's weights, which are the same at every K."""
    with seeded(stream_seed(seed, "init"), torch.device("cpu")):
        return problems.create(f"{problem}[importance_samples={count}]")


def draw_minibatch(model: Problem, size: int, seed: int) -> Tensor:
    """Draw training examples without replacement, the same at every K, (size, X)."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "data"))
    rows = torch.randperm(len(model.data.train), generator=generator)[:size]
    return model.observe(torch.from_numpy(model.data.train)[rows], generator)
