"""How noisy each estimator's gradient is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.report.analysis import frames
from estbench.report.analysis.frames import costs
from estbench.report.tables.assemble import ABSENT, assemble, columns_of, entry
from estbench.report.tables.base import NOTHING, TIMES, Column, Entry, Table, significant
from estbench.stats import Interval, log_t_interval, paired_ratio, t_interval

if TYPE_CHECKING:
    from estbench.store import Results

OPTIONAL = ("data_variance", "bias2", "bias_bound", "cosine")


def gradient_variance(results: Results, trajectory: str = frames.TRAJECTORY) -> Table:
    """One row per space, group and estimator at the last checkpoint that all finished cells of a problem share."""
    frame, reference = frames.gradients(results, trajectory), frames.reference(results)
    optional = [name for name in OPTIONAL if (frame["statistic"] == name).any()]
    statistics = ["variance", "snr", "mean_norm2", *optional]
    data: list[dict[str, Any]] = []
    rows = []
    for problem in frames.problems(results):
        here = frame[frame["problem"] == problem]
        step = frames.last_common_step(here)
        if step is None:
            continue
        here = here[here["step"] == step]
        evaluations, milliseconds = costs(results, problem)
        for space, group in frames.groups(here):
            of_group = here[(here["space"] == space) & (here["group"] == group)]
            baseline = of_group[(of_group["estimator"] == reference) & (of_group["statistic"] == "variance")].set_index(
                "seed"
            )["value"]
            for estimator in frames.estimators(results):
                mine = of_group[of_group["estimator"] == estimator]
                if mine.empty:
                    continue
                values = {name: mine[mine["statistic"] == name].set_index("seed") for name in statistics}
                intervals = {name: _over_seeds(name, found) for name, found in values.items()}
                shared = values["variance"].index.intersection(baseline.index)
                ratio = ABSENT
                if estimator != reference and len(shared):
                    ratio = paired_ratio(values["variance"]["value"].loc[shared], baseline.loc[shared])
                replicates = int(mine["replicates"].min())
                products = {
                    name: _times(intervals["variance"], known.get(str(estimator)))
                    for name, known in (("evaluations", evaluations), ("milliseconds", milliseconds))
                }
                where = {
                    "problem": problem,
                    "space": space,
                    "group": group,
                    "estimator": estimator,
                    "step": step,
                }
                data.append(
                    where
                    | columns_of(intervals)
                    | columns_of({"variance_ratio": ratio})
                    | columns_of({f"variance_x_{name}": product for name, product in products.items()})
                    | {
                        "reference": reference or "",
                        "seeds": mine["seed"].nunique(),
                        "replicates": replicates,
                    }
                )
                one_seed = intervals["variance"].n == 1
                rows.append(
                    (
                        Entry(str(estimator)),
                        Entry(str(problem)),
                        Entry(f"{group} ({space})"),
                        entry(intervals["variance"], significant, one_probe=one_seed),
                        Entry("reference") if estimator == reference else entry(ratio, significant),
                        *(Entry(significant(product.value)) for product in products.values()),
                        *(_entry(name, intervals[name], one_probe=one_seed) for name in statistics[1:]),
                    )
                )
    titles = {
        "snr": "SNR",
        "mean_norm2": "|mean|²",
        "data_variance": "data variance",
        "bias2": "squared bias",
        "bias_bound": "bias below, of |mean|",
        "cosine": "cosine to the reference",
    }
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("gradient of", numeric=False),
        Column("variance"),
        Column(f"ratio to {reference}" if reference else "ratio"),
        Column(f"variance {TIMES} evaluations"),
        Column(f"variance {TIMES} ms"),
        *(Column(titles[name]) for name in statistics[1:]),
    ]
    steps = " and ".join(f"{step:,}" for step in sorted({row["step"] for row in data}))
    draws = " or ".join(str(count) for count in sorted({row["replicates"] for row in data}))
    bias = (
        " Squared bias: unbiased, against the reference gradient; below: the bound of the bias that 95 % confidence "
        "allows, as a share of that gradient's length, the largest over seeds."
        if "bias2" in optional
        else ""
    )
    caption = (
        "Variance: trace of the covariance of the minibatch-mean gradient at frozen weights and one fixed minibatch, "
        f"from R = {draws} independent draws; {frames.describe_trajectory(trajectory)}, at the last "
        f"checkpoint that all finished cells share (step {steps}). Times evaluations of f per example and times "
        "milliseconds per training step it is the variance at equal cost. |mean|²: squared norm of the mean gradient. "
        f"Data variance: what drawing the minibatch adds.{bias} The variance and its ratio: geometric mean over n "
        "seeds with the 95 % t interval on the log scale, the ratio paired by seed; the rest: mean with the 95 % t "
        "interval. With one seed the interval is the probe's own, over its R draws. Two seeds get none."
    )
    name, title = "gradient_variance", "Gradient variance"
    if trajectory != frames.TRAJECTORY:
        name, title = f"{name}_{trajectory}", f"{title} ({trajectory} trajectory)"
    return assemble(results, name, title, caption, data, columns, rows)


def _times(interval: Interval, factor: float | None) -> Interval:
    """An interval in other units; nothing where the factor is not known."""
    if factor is None:
        return ABSENT
    value, low, high, n = interval
    return Interval(value * factor, low * factor, high * factor, n)


def _entry(statistic: str, interval: Interval, *, one_probe: bool) -> Entry:
    if statistic != "bias_bound":
        return entry(interval, significant, one_probe=one_probe)
    return Entry(f"{significant(100 * interval.value)} %" if interval.n else NOTHING)


def _over_seeds(statistic: str, values: pd.DataFrame) -> Interval:
    """A gradient statistic over seeds; the probe's own interval where there is one seed."""
    if len(values) == 1:
        only = values.iloc[0]
        return Interval(float(only["value"]), float(only["low"]), float(only["high"]), 1)
    if statistic == "bias_bound":
        largest = float(values["value"].max()) if len(values) else math.nan
        return Interval(largest, 0.0, largest, len(values))
    # The others are unbiased estimates, which may fall below zero.
    over = log_t_interval if statistic == "variance" else t_interval
    return over(values["value"])
