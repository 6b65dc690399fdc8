"""A card's figure has room for its legend."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from estbench.report.figures.style import matplotlib_style
from estbench.reproduce import CardResult, Panel, ReproductionCard, StudyResult, figure_point
from estbench.reproduce.figure import _legend_columns, draw, draw_panels
from estbench.stats import Interval

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


def drawn(names, points=(), **axes):
    """The axes of a figure with a point of one line at each of several x in each panel."""
    points = points or [
        figure_point(panel, "a", x, Interval(x, x / 2, x * 2, 5)) for panel in names for x in (1, 2000, 5000)
    ]
    with matplotlib_style():
        figure = draw_panels(pd.DataFrame(points), StudyResult({}, points, ("step", "value"), **axes)).figure
        figure.draw_without_rendering()
    return figure


def test_a_label_is_of_its_panel():
    kinds = {"cost": Panel(label="share"), "noise": Panel(label="variance")}
    assert [axes.get_ylabel() for axes in drawn("abc").axes] == ["value", "", ""]  # the same for all: said once
    assert [axes.get_ylabel() for axes in drawn(kinds, panels=kinds).axes] == ["share", "variance"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_ticks_do_not_touch(count):
    figure = drawn("abcdef"[:count])
    for axes in figure.axes:
        inside = [label for label in axes.get_xticklabels() if axes.bbox.x0 - 1 <= _middle(label) <= axes.bbox.x1 + 1]
        boxes = [label.get_window_extent() for label in inside]
        assert len(boxes) > 1
        assert all(left.x1 + 4 < right.x0 for left, right in itertools.pairwise(boxes))


def test_what_a_claim_is_about_is_drawn_and_named():
    kinds = {"noise": Panel(label="ratio", level=1.0, level_name="REINFORCE")}
    figure = drawn(kinds, panels=kinds)
    assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == ["a", "REINFORCE"]
    assert [1.0, 1.0] in [list(line.get_ydata()) for line in figure.axes[0].get_lines()]


@pytest.mark.parametrize(("high", "scale"), [(5, "linear"), (5000, "log")])
def test_an_axis_is_logarithmic_only_where_it_has_labels(high, scale):
    points = [figure_point("p", "a", x, Interval(x, x, x, 1)) for x in (1, high)]
    assert drawn("p", points, log_axes=(True, True)).axes[0].get_yscale() == scale


@pytest.mark.parametrize(
    ("half", "expected", "bars", "dashes"), [(0.1, None, True, False), (0.0, 1.0, False, True), (0.1, 1.0, True, True)]
)
def test_a_caption_explains_what_is_drawn_only(half, expected, bars, dashes):
    card = ReproductionCard(
        name="c",
        claim="C.",
        paper="williams1992",
        where="1",
        protocol="p",
        deviations=(),
        computed="c",
        tier="seconds",
        study="s",
        expect=({"quantity": "q", "relation": "less", "value": 1.0, "source": "s"},),
    )
    points = [figure_point("p", "a", 1, Interval(1, 1 - half, 1 + half, 3), expected)]
    caption = draw(CardResult(card, StudyResult({}, points, bars="the range"), 0.0)).caption
    assert ("Bars: the range" in caption, "Dashes" in caption) == (bars, dashes)


def _middle(label):
    box = label.get_window_extent()
    return (box.x0 + box.x1) / 2
