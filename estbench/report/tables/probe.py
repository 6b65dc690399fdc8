"""The table of ``estbench probe``, and its files."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from estbench.guarded import GuardedPath
from estbench.report.analysis.paired import ABSENT
from estbench.report.analysis.wording import significant
from estbench.report.tables.base import Table, as_csv
from estbench.report.tables.entry import Entry
from estbench.report.tables.fields import ESTIMATOR, Field, build_table
from estbench.report.tables.gradients import (
    BELOW_ZERO,
    BEST,
    GRADIENT_OF,
    NOT_NEGATIVE,
    OPTIONAL,
    cost_fields,
    leave_out_constant_groups,
    write_statistic,
)
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
    every = _find_rows(frame)
    rows, without = leave_out_constant_groups(every, lambda row: (row.place, row.space, row.group))
    fields: list[Field[ProbeRow]] = [
        Field("place", "at" if len(places) > 1 else "", text=True),
        GRADIENT_OF,
        Field("space"),
        ESTIMATOR,
        *(_statistic_field(name, title) for name, title in TITLES.items() if name in measured),
        Field(
            "variance_ratio",
            f"variance relative to {frame['estimator'].iloc[0]}",
            entry=lambda row: Entry("reference", key=1) if row.is_first else significant(row.variance_ratio),
            best="low",
        ),
        *cost_fields(rows),
        Field("evaluations"),
        Field("milliseconds"),
        Field("replicates"),
    ]
    where = places[0] if len(places) == 1 else "each place"
    below = any(row.statistics[name].value < 0 for row in rows for name in NOT_NEGATIVE & set(row.statistics))
    sentences = [
        (
            f"The variance of the gradient of one fixed minibatch at {where}: the sum over all parameters of a group, "
            "at frozen weights. In brackets: the 95 % interval over the draws."
        ),
        "Variance of the minibatch: the noise that drawing the minibatch adds." if "data_variance" in measured else "",
        BELOW_ZERO if below else "",
        (
            "Evaluations: decoder evaluations per image, where one is one latent sample of one image. ms: the time of "
            "one gradient; the estimators were timed in turn."
        ),
        without,
    ]
    caption = " ".join(filter(None, sentences))
    return build_table("probe", "Gradient probe", caption, fields, rows, csv_first=WHERE, blocks=WHERE, csv_rows=every)


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
    return Field(
        name,
        title,
        lambda row: row.statistics[name],
        lambda interval: replace(write_statistic(name, interval), unit="draw"),
        best=BEST.get(name, ""),
    )
