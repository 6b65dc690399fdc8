"""The part of a step's time that does not grow with its minibatch: the time of launching operations.

At sizes B, the seconds of a step are fitted as fixed + growing * B, with equal relative weight. Both parts are equal at
the knee, where half of the highest rate is reached. Below it a step is launch-bound: it is mostly the time of the host,
so ratios between estimators say little about the device at work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from estbench.experiment.spec import EAGER
from estbench.report.analysis.frames import Frames
from estbench.report.analysis.wording import format_count, format_list
from estbench.stats import Interval, log_t_interval


class StepTime(NamedTuple):
    """The seconds of a step: a fixed part, and what each example adds."""

    fixed: float
    growing: float

    @property
    def knee(self) -> float:
        """The size of minibatches at which both parts are equal: 0 without a fixed part, infinite without another."""
        return self.fixed / self.growing if self.growing else math.inf

    def fixed_share(self, batch_size: float) -> float:
        """Return the fixed part of a step with so many examples, as a share of its time."""
        return self.fixed / (self.fixed + self.growing * batch_size)


class Growth(NamedTuple):
    """The growth of the time of one estimator's steps with the minibatch, in one mode."""

    problem: str
    estimator: str
    mode: str
    device: str
    sizes: tuple[int, ...]
    time: StepTime
    knee: Interval  # over rounds; without ends if a round has none

    def write_knee(self) -> str:
        """Return the knee in examples, or that it is not among the sizes that were timed."""
        if self.time.knee < self.sizes[0]:
            return f"below {format_count(self.sizes[0])}"
        if self.time.knee > self.sizes[-1]:
            return f"above {format_count(self.sizes[-1])}"
        return format_count(round(self.time.knee))

    @property
    def launch_bound(self) -> list[int]:
        """The sizes that were timed and are at most the knee."""
        return [size for size in self.sizes if size <= self.time.knee]


def fit_step_time(sizes: Sequence[float], seconds: Sequence[float]) -> StepTime:
    """Return the fixed and the growing part, neither negative, with the least relative squared errors.

    Parameters
    ----------
    sizes
        At least two different sizes of minibatches.
    seconds
        The seconds of a step at each of them.

    Examples
    --------
    >>> fit_step_time([100, 1000], [0.002, 0.011])
    StepTime(fixed=0.001, growing=1e-05)
    """
    size, time = np.asarray(sizes, float), np.asarray(seconds, float)
    parts = np.stack([1 / time, size / time], axis=1)
    both = np.linalg.lstsq(parts, np.ones(len(time)), rcond=None)[0]
    if (both >= 0).all():
        return StepTime(*(float(f"{part:.12g}") for part in both))
    alone = parts.sum(0) / (parts**2).sum(0)  # the best fit by one part only
    errors = ((parts * alone - 1) ** 2).sum(0)
    return StepTime(float(alone[0]), 0.0) if errors[0] < errors[1] else StepTime(0.0, float(alone[1]))


def find_growths(frames: Frames) -> list[Growth]:
    """Return the growth of each estimator that was timed at several sizes."""
    growths = []
    for (problem, estimator, mode), rows in frames.timings_by_size.groupby(
        ["problem", "estimator", "mode"], sort=False
    ):
        sizes = tuple(sorted(int(size) for size in rows["batch_size"].unique()))
        if len(sizes) < 2:
            continue
        seconds = [log_t_interval(rows.loc[rows["batch_size"] == size, "seconds_per_step"]).value for size in sizes]
        rounds = rows.pivot_table(index="round", columns="batch_size", values="seconds_per_step").dropna()
        knees = [fit_step_time(sizes, [row[size] for size in sizes]).knee for _, row in rounds.iterrows()]
        known = len(knees) > 0 and all(0 < knee < math.inf for knee in knees)
        knee = log_t_interval(pd.Series(knees)) if known else Interval(math.nan, math.nan, math.nan, 0)
        device = str(rows["device"].iloc[0])
        time = fit_step_time(sizes, seconds)
        growths.append(Growth(str(problem), str(estimator), str(mode), device, sizes, time, knee))
    return growths


def describe_launches(growths: Sequence[Growth]) -> list[str]:
    """Return sentences that name the estimators whose eager steps are launch-bound, and at which sizes."""
    lines = []
    eager = [growth for growth in growths if growth.mode == EAGER]
    several = len({growth.problem for growth in eager}) > 1
    for problem in dict.fromkeys(growth.problem for growth in eager):
        of_problem = [growth for growth in eager if growth.problem == problem]
        sizes_of: dict[str, list[str]] = {}
        for size in sorted({size for growth in of_problem for size in growth.sizes}):
            timed = [growth for growth in of_problem if size in growth.sizes]
            bound = [growth.estimator for growth in timed if size in growth.launch_bound]
            if bound:
                who = "every estimator" if len(bound) == len(timed) else format_list(bound)
                sizes_of.setdefault(who, []).append(format_count(size))
        lines += [
            f"Launch-bound{f' on {problem}' if several else ''}: with {format_list(sizes)} examples in a step "
            f"({of_problem[0].device}), most of the time of {who} does not grow with the minibatch. It is the time of "
            "launching operations, so ratios of seconds at this size say little about the device."
            for who, sizes in sizes_of.items()
        ]
    return lines
