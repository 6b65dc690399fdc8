"""How noisy each estimator's gradient is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.report import extract
from estbench.report.assemble import ABSENT, assemble, columns_of, entry
from estbench.report.table import Column, Entry, Table, significant
from estbench.stats import Interval, log_t_interval, paired_ratio, t_interval

if TYPE_CHECKING:
    from estbench.store import Results


def gradient_variance(results: Results) -> Table:
    """One row per space, group and estimator at the last checkpoint that all finished cells of a problem share."""
    frame, reference = extract.gradients(results), extract.reference(results)
    statistics = ["variance", "snr", "mean_norm2", "data_variance"]
    optional = [name for name in ("data_variance", "bias2") if (frame["statistic"] == name).any()]
    statistics = [*statistics[:3], *optional]
    data: list[dict[str, Any]] = []
    rows = []
    for problem in extract.problems(results):
        here = frame[frame["problem"] == problem]
        step = extract.last_common_step(here)
        if step is None:
            continue
        here = here[here["step"] == step]
        for space, group in extract.groups(here):
            of_group = here[(here["space"] == space) & (here["group"] == group)]
            baseline = of_group[(of_group["estimator"] == reference) & (of_group["statistic"] == "variance")].set_index(
                "seed"
            )["value"]
            for estimator in extract.estimators(results):
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
                        entry(intervals["variance"], significant, jackknife=one_seed),
                        Entry("reference") if estimator == reference else entry(ratio, significant),
                        *(entry(intervals[name], significant, jackknife=one_seed) for name in statistics[1:]),
                    )
                )
    titles = {
        "snr": "SNR",
        "mean_norm2": "|mean|²",
        "data_variance": "data variance",
        "bias2": "squared bias",
    }
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("gradient of", numeric=False),
        Column("variance"),
        Column(f"ratio to {reference}" if reference else "ratio"),
        *(Column(titles[name]) for name in statistics[1:]),
    ]
    steps = " and ".join(f"{step:,}" for step in sorted({row["step"] for row in data}))
    draws = " or ".join(str(count) for count in sorted({row["replicates"] for row in data}))
    caption = (
        "Variance: trace of the covariance of the minibatch-mean gradient at frozen weights and one fixed minibatch, "
        f"from R = {draws} independent draws; each estimator at the weights of its own training, at the last "
        f"checkpoint that all finished cells share (step {steps}). |mean|²: squared norm of the mean gradient. "
        "Data variance: what drawing the minibatch adds. The variance and its ratio: geometric mean over n seeds "
        "with the 95 % t interval on the log scale, the ratio paired by seed; the rest: mean with the 95 % t "
        "interval. With one seed the interval is the probe's own: the 95 % jackknife over its R draws. "
        "Two seeds get none."
    )
    return assemble(results, "gradient_variance", "Gradient variance", caption, data, columns, rows)


def _over_seeds(statistic: str, values: pd.DataFrame) -> Interval:
    """A gradient statistic over seeds; the probe's own interval where there is one seed."""
    if len(values) == 1:
        only = values.iloc[0]
        return Interval(float(only["value"]), float(only["low"]), float(only["high"]), 1)
    # The others are unbiased estimates, which may fall below zero.
    over = log_t_interval if statistic == "variance" else t_interval
    return over(values["value"])
