"""The law of total variance: how much of a minibatch gradient's noise a better estimator could remove."""

from __future__ import annotations

import math

import pandas as pd

from estbench.report.analysis.wording import format_percent
from estbench.stats import Interval, t_interval


def shares(frame: pd.DataFrame) -> Interval:
    r"""Return the estimator's share of the noise, over seeds: V / (V + D).

    V is the variance of the estimator at one fixed minibatch, D is the variance that drawing the minibatch adds. D is
    an unbiased estimate, which may fall below zero; then it counts as zero.
    """
    wide = frame.pivot_table(index="seed", columns="statistic", values="value")
    if not {"variance", "data_variance"} <= set(wide.columns):
        return t_interval([])
    wide = wide.dropna(subset=["variance", "data_variance"])
    drawn = wide["data_variance"].clip(lower=0)
    total = wide["variance"] + drawn
    return t_interval((wide["variance"] / total)[total > 0])


def describe_probe(frame: pd.DataFrame) -> list[str]:
    """Return the share of each estimator in the noise of the weights' gradient, and what follows from it.

    Parameters
    ----------
    frame
        Statistics in long form, as ``estbench probe`` measures them at one or several places.
    """
    several = len(set(frame["place"])) > 1
    weights = frame[frame["space"] == "weights"]
    lines = []
    for (place, space, group), here in weights.groupby(["place", "space", "group"], sort=False):
        where = f"{group} ({space})" + (f" at {place}" if several else "")
        for estimator, rows in here.groupby("estimator", sort=False):
            noise, drawn = (_find_value(rows, name) for name in ("variance", "data_variance"))
            total = noise + max(0.0, drawn)
            if math.isnan(noise + drawn) or total == 0:
                continue
            lines.append(
                f"{estimator}, {where}: {format_percent(noise / total)} of the noise is the estimator's; "
                f"{_describe_consequence(noise / total)}"
            )
    return lines


def _find_value(rows: pd.DataFrame, statistic: str) -> float:
    values = rows.loc[rows["statistic"] == statistic, "value"]
    return float(values.iloc[0]) if len(values) else math.nan


def _describe_consequence(share: float) -> str:
    """Return what an estimator's share of the noise means for the choice of another."""
    if share < 0.1:
        return "a better estimator can hardly help, a larger minibatch would"
    if share > 0.9:
        return "nearly all that could be gained is in the estimator"
    return "both the estimator and the minibatch matter"
