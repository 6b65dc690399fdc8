"""A card's figure has room for its legend."""

from __future__ import annotations

import pandas as pd
import pytest

from estbench.report.figures.style import matplotlib_style
from estbench.reproduce import StudyResult
from estbench.reproduce.figure import _legend_columns, draw_panels

LONG = [f"reinforce[baseline=optimal,baseline_draws={draws}]" for draws in (10, 25, 100)]


@pytest.mark.parametrize(
    "labels", [["reparam"], ["iwae", "stl-iwae", "dreg"], [*"abcdefg"], LONG, ["reparam", "delta", "stl", *LONG]]
)
def test_the_legend_is_within_the_figure(labels):
    points = [
        {"panel": "all", "series": label, "x": x, "value": x, "low": x - 0.1, "high": x + 0.1}
        for label in labels
        for x in (1, 2)
    ]
    with matplotlib_style():
        figure = draw_panels(pd.DataFrame(points), StudyResult({}, points, ("x", "y"))).figure
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert [tick for tick in figure.axes[0].get_xticks() if tick % 1] == []


def test_short_labels_stand_in_one_row():
    assert _legend_columns(["iwae", "stl-iwae", "dreg"]) == 3
