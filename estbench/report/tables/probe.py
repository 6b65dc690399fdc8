"""The table of ``estbench probe``, and its files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from estbench.guarded import GuardedPath
from estbench.report.analysis.paired import ABSENT
from estbench.report.analysis.wording import significant
from estbench.report.tables.base import Entry, Table, as_csv
from estbench.report.tables.fields import ESTIMATOR, Field, build_table
from estbench.report.tables.gradients import GRADIENT_OF, OPTIONAL, cost_fields, format_bias_bound
from estbench.stats import Interval
from estbench.store.files import encoded, write_files

WHERE = ["place", "space", "group"]
# In the order of the table.
TITLES = {
    "variance": "variance",
    "snr": "SNR",
    **OPTIONAL,
    "bias_bound": "bias below, of |gradient|",
    "cosine": "cosine",
}


@dataclass(frozen=True)
class ProbeRow:
    """The gradient of one estimator at one place, for one group of parameters."""

    place: str
    space: str
    group: str
    estimator: str
    statistics: dict[str, Interval]
    variance_ratio: float  # to the first estimator
    is_first: bool
    costs: dict[str, float]  # the variance times evaluations, and times milliseconds
    evaluations: float  # per example
    milliseconds: float  # per gradient
    replicates: int


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows in long form: place, estimator, the columns of a probe, evaluations and milliseconds of a gradient.

    The rows of the weights come first.
    """
    frame = pd.DataFrame(rows, columns=None if rows else ["space"])
    return frame.iloc[(frame["space"] != "weights").to_numpy().argsort(kind="stable")].reset_index(drop=True)


def table(frame: pd.DataFrame) -> Table:
    """Return one row per place, group and estimator; the others are compared with the first estimator.

    ``frame`` has at least one row, as ``frame_of`` makes it.
    """
    measured = set(frame["statistic"])
    places = list(dict.fromkeys(frame["place"]))
    fields: list[Field[ProbeRow]] = [
        Field("place", "at" if len(places) > 1 else "", text=True),
        GRADIENT_OF,
        Field("space"),
        ESTIMATOR,
        *(_statistic_field(name, title) for name, title in TITLES.items() if name in measured),
        Field(
            "variance_ratio",
            f"variance over {frame['estimator'].iloc[0]}'s",
            entry=lambda row: "reference" if row.is_first else significant(row.variance_ratio),
        ),
        *cost_fields(significant),
        Field("evaluations"),
        Field("milliseconds"),
        Field("replicates"),
    ]
    caption = (
        f"At {places[0] if len(places) == 1 else 'each place'}, frozen: traces of the covariance of the "
        f"minibatch-mean gradient from R = {int(frame['replicates'].iloc[0])} draws, in brackets the 95 % interval. "
        f"{'Data variance: what drawing the minibatch adds. ' if 'data_variance' in measured else ''}"
        "Evaluations are calls of f per example; ms are those of one gradient, in rounds interleaved over the "
        "estimators."
    )
    return build_table("probe", "Gradient probe", caption, fields, _find_rows(frame), csv_first=WHERE, blocks=WHERE)


def write(out: Path, shown: Table, frame: pd.DataFrame) -> list[Path]:
    """Write the table as CSV and Markdown, the moments in long form, and a figure of each place; return the paths."""
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


def _find_rows(frame: pd.DataFrame) -> list[ProbeRow]:
    first = frame["estimator"].iloc[0]
    measured = set(frame["statistic"])
    rows = []
    for (place, space, group), here in frame.groupby(WHERE, sort=False):
        base = _find_statistic(here[here["estimator"] == first], "variance").value
        for estimator, probed in here.groupby("estimator", sort=False):
            statistics = {name: _find_statistic(probed, name) for name in TITLES if name in measured}
            variance = statistics["variance"].value
            evaluations, milliseconds = probed["evaluations"].iloc[0], probed["milliseconds"].iloc[0]
            rows.append(
                ProbeRow(
                    place=str(place),
                    space=str(space),
                    group=str(group),
                    estimator=str(estimator),
                    statistics=statistics,
                    variance_ratio=variance / base if base > 0 else math.nan,
                    is_first=estimator == first,
                    costs={
                        "evaluations": variance * float(evaluations),
                        "milliseconds": variance * float(milliseconds),
                    },
                    evaluations=evaluations,
                    milliseconds=milliseconds,
                    replicates=probed["replicates"].iloc[0],
                )
            )
    return rows


def _find_statistic(rows: pd.DataFrame, statistic: str) -> Interval:
    """Return a statistic with its interval, over the draws of one probe."""
    of_statistic = rows[rows["statistic"] == statistic]
    if of_statistic.empty:
        return ABSENT
    row = of_statistic.iloc[0]
    return Interval(float(row["value"]), float(row["low"]), float(row["high"]), int(row["replicates"]))


def _statistic_field(name: str, title: str) -> Field[ProbeRow]:
    """Return the field of one statistic."""

    def write(interval: Interval) -> Entry:
        if name == "bias_bound":
            return Entry(format_bias_bound(interval))
        ends = "" if math.isnan(interval.low) else f"[{significant(interval.low)}, {significant(interval.high)}]"
        return Entry(significant(interval.value), ends)

    return Field(name, title, lambda row: row.statistics[name], write)
