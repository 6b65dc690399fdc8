"""What ``estbench probe`` shows: a table, a sentence on the estimator's share of the noise, and a figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.guarded import GuardedPath
from estbench.report.analysis.noise_shares import percent
from estbench.report.tables.assemble import columns_of
from estbench.report.tables.base import NOTHING, TIMES, Column, Entry, Table, as_csv, significant
from estbench.stats import Interval
from estbench.store.files import encoded, write_files

if TYPE_CHECKING:
    from pathlib import Path

WHERE = ["place", "space", "group"]
TITLES = {
    "variance": "variance",
    "snr": "SNR",
    "data_variance": "data variance",
    "bias2": "squared bias",
    "bias_bound": "bias below, of |gradient|",
    "cosine": "cosine",
}


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows in long form: place, estimator, the columns of a probe, evaluations and milliseconds of a gradient."""
    frame = pd.DataFrame(rows, columns=None if rows else ["space"])
    return frame.iloc[(frame["space"] != "weights").to_numpy().argsort(kind="stable")].reset_index(drop=True)


def table(frame: pd.DataFrame) -> Table:
    """One row per place, group and estimator; the first estimator is what the others are compared with."""
    found = set(frame["statistic"])
    shown = [name for name in TITLES if name in found]
    several = len(set(frame["place"])) > 1
    first = frame["estimator"].iloc[0]
    data, rows, blocks = [], [], []
    for (place, space, group), here in frame.groupby(WHERE, sort=False):
        base = _value(here[here["estimator"] == first], "variance")
        for estimator, mine in here.groupby("estimator", sort=False):
            intervals = {name: _interval(mine, name) for name in shown}
            variance = intervals["variance"].value
            costs = {
                "variance_x_evaluations": variance * float(mine["evaluations"].iloc[0]),
                "variance_x_milliseconds": variance * float(mine["milliseconds"].iloc[0]),
            }
            ratio = variance / base if base > 0 else math.nan
            where = {"place": place, "space": space, "group": group, "estimator": estimator}
            data.append(
                where
                | columns_of(intervals)
                | {"variance_ratio": ratio, **costs}
                | {name: mine[name].iloc[0] for name in ("evaluations", "milliseconds", "replicates")}
            )
            blocks.append((place, space, group))
            rows.append(
                (
                    *([Entry(str(place))] if several else []),
                    Entry(f"{group} ({space})"),
                    Entry(str(estimator)),
                    *(_entry(name, intervals[name]) for name in shown),
                    Entry("reference") if estimator == first else Entry(significant(ratio)),
                    *(Entry(significant(cost)) for cost in costs.values()),
                )
            )
    columns = [
        *([Column("at", numeric=False)] if several else []),
        Column("gradient of", numeric=False),
        Column("estimator", numeric=False, head=True),
        *(Column(TITLES[name]) for name in shown),
        Column(f"variance over {first}'s"),
        Column(f"variance {TIMES} evaluations"),
        Column(f"variance {TIMES} ms"),
    ]
    caption = (
        f"At {frame['place'].iloc[0] if not several else 'each place'}, frozen: traces of the covariance of the "
        f"minibatch-mean gradient from R = {int(frame['replicates'].iloc[0])} draws, in brackets the 95 % interval. "
        f"{'Data variance: what drawing the minibatch adds. ' if 'data_variance' in shown else ''}"
        "Evaluations are calls of f per example; ms are those of one gradient, in rounds interleaved over the "
        "estimators."
    )
    rules = frozenset(at for at in range(1, len(blocks)) if blocks[at] != blocks[at - 1])
    return Table("probe", "Gradient probe", caption, pd.DataFrame(data), tuple(columns), tuple(rows), rules)


def sentences(frame: pd.DataFrame) -> list[str]:
    """What share of a minibatch gradient's noise each estimator is responsible for, and what follows from it."""
    told = []
    for (place, space, group), here in frame[frame["space"] == "weights"].groupby(WHERE, sort=False):
        for estimator, mine in here.groupby("estimator", sort=False):
            noise, data = _value(mine, "variance"), _value(mine, "data_variance")
            if math.isnan(noise + data) or noise + max(0.0, data) == 0:
                continue
            share = noise / (noise + max(0.0, data))
            where = f" at {place}" if len(set(frame["place"])) > 1 else ""
            told.append(
                f"{estimator}, {group} ({space}){where}: {percent(share)} of the noise is the estimator's; "
                f"{consequence(share)}"
            )
    return told


def consequence(share: float) -> str:
    """What an estimator's share of the noise means for whoever would choose another."""
    if share < 0.1:
        return "a better estimator can hardly help, a larger minibatch would"
    if share > 0.9:
        return "nearly all that could be gained is in the estimator"
    return "both the estimator and the minibatch matter"


def write(out: Path, shown: Table, frame: pd.DataFrame) -> list[Path]:
    """Write the table as CSV and Markdown, the moments in long form, and a figure of each place."""
    from estbench.report.figures.cost import draw_probe  # noqa: PLC0415  (plotting takes a second to load)
    from estbench.report.figures.rendered import encode_figure  # noqa: PLC0415
    from estbench.report.figures.style import line_styles, matplotlib_style  # noqa: PLC0415

    files = {
        "probe.csv": encoded(shown.to_csv()),
        "probe.md": encoded(shown.to_markdown()),
        "moments.csv": encoded(as_csv(frame)),
    }
    with matplotlib_style():
        styles = line_styles(list(dict.fromkeys(frame["estimator"])))
        for at, (_, here) in enumerate(frame.groupby("place", sort=False)):
            figure = draw_probe(here, styles)
            name = f"probe-{at + 1}" if len(set(frame["place"])) > 1 else "probe"
            files |= {f"{name}.{kind}": encode_figure(figure, kind) for kind in ("svg", "png")}
    write_files(GuardedPath(out), files)
    return [out / name for name in files]


def _entry(statistic: str, interval: Interval) -> Entry:
    if statistic == "bias_bound":
        return Entry(NOTHING if math.isnan(interval.value) else f"{significant(100 * interval.value)} %")
    if math.isnan(interval.low):
        return Entry(significant(interval.value))
    return Entry(significant(interval.value), f"[{significant(interval.low)}, {significant(interval.high)}]")


def _interval(rows: pd.DataFrame, statistic: str) -> Interval:
    found = rows[rows["statistic"] == statistic]
    if found.empty:
        return Interval(math.nan, math.nan, math.nan, 0)
    row = found.iloc[0]
    return Interval(float(row["value"]), float(row["low"]), float(row["high"]), int(row["replicates"]))


def _value(rows: pd.DataFrame, statistic: str) -> float:
    return _interval(rows, statistic).value
