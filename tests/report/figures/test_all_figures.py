"""Figures: consistent styles, labels apart, what is off the scale is said, the user's settings are left alone."""

from __future__ import annotations

import dataclasses
import math
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.figure import Figure
from records import analyse, write_results

from estbench.report.analysis import Analysis
from estbench.report.analysis.wording import TIMES
from estbench.report.figures import FigureSource, all_figures
from estbench.report.figures.bounds import draw_bounds
from estbench.report.figures.cost import draw_probe
from estbench.report.figures.direct_labels import avoid_overlap
from estbench.report.figures.gradients import draw_statistics
from estbench.report.figures.style import (
    COLOURS,
    DASHES,
    MARKERS,
    line_styles,
    matplotlib_style,
    matplotlib_text,
    wrap_label,
    write_plain_powers,
)
from estbench.report.page.svg import inline_svg

NAMES = [
    "final_bounds",
    "elbo_steps",
    "elbo_evaluations",
    "elbo_seconds",
    "elbo_gap",
    "iwae_steps",
    "bound_parts",
    "pictures",
    "noise_shares",
    "gradient_variance",
    "gradient_snr",
    "variance_cost",
    "throughput",
    "pareto",
]


def source_of(analysis, labels):
    return FigureSource(analysis, line_styles(labels), "vae")


@pytest.fixture(scope="module")
def figures(analysis):
    before = dict(mpl.rcParams)
    made = {figure.name: figure for figure in all_figures(analysis)}
    assert dict(mpl.rcParams) == before
    return made


def test_every_figure_is_there_with_its_words(folder, figures):
    """The files are those of the report of the same records."""
    assert list(figures) == NAMES
    assert list(figures["elbo_steps"].files()) == ["svg", "png", "csv"]
    assert list(figures["elbo_steps"].files(["csv", "html", "png"])) == ["png", "csv"]
    for figure in figures.values():
        assert figure.svg.lstrip().startswith(b"<?xml")
        assert figure.svg == (folder / "report" / "figures" / f"{figure.name}.svg").read_bytes()
        assert len(figure.svg) < 400_000
        assert b"<dc:date>" not in figure.svg
        assert figure.reading.startswith("How to read it")
        for estimator in ("reparam", "rloo[num_samples=4]"):
            assert estimator in figure.alt


def test_captions_say_n_and_what_the_band_is(figures):
    for name in ("elbo_steps", "gradient_variance", "variance_cost"):
        caption = figures[name].caption
        assert "95 % t interval" in caption
        assert "n = 4 seeds" in caption
        assert "reinforce: n = 3" in caption
        assert "reparam: n" not in caption
    assert "n = 8 rounds" in figures["throughput"].caption


def test_failed_and_diverged_runs_are_named_and_do_not_squash_the_others(figures):
    figure = figures["elbo_steps"]
    below = figure.caption.partition("Off the scale, below: ")[2]
    assert "reinforce \N{MINUS SIGN}5" in below
    assert "(1 diverged)" in below
    assert "reparam" not in below


def test_an_estimator_without_a_finite_bound_is_named(tmp_path):
    statuses = {("stl", 0): "diverged", ("reinforce", 0): None}
    path = write_results(tmp_path / "r", ["reparam", "stl", "reinforce"], 1, statuses=statuses, stops={("stl", 0): 0})
    figure = next(draw_bounds(source_of(analyse(path), ["reparam", "stl", "reinforce"])))
    assert "No curve: stl (diverged at step 0), reinforce (missing)." in figure.caption
    assert "stl (diverged at step 0)" in figure.alt


def test_a_zero_variance_is_said_not_drawn(tmp_path):
    path = write_results(tmp_path / "r", ["reparam", "detached"], 3, rounds=0)
    analysis = analyse(path)
    frame = analysis.results.gradients
    frame.loc[(frame["estimator"] == "detached") & (frame["group"] == "loc"), ["value", "low", "high"]] = 0.0
    figure = next(draw_statistics(source_of(analysis, ["reparam", "detached"])))
    assert "detached (loc)" in figure.caption


def test_a_gradient_that_never_varies_has_no_panel(tmp_path):
    analysis = analyse(write_results(tmp_path / "r", ["reparam", "stl"], 3, rounds=0))
    frame = analysis.results.gradients
    frame.loc[frame["group"] == "loc", ["value", "low", "high"]] = 0.0
    figure = next(draw_statistics(source_of(analysis, ["reparam", "stl"])))
    assert "Not drawn, because it is never above zero: loc." in figure.caption
    assert "loc (params)" not in figure.alt
    assert "log_scale (params)" in figure.alt
    assert [b"<!-- %s (" % group in figure.svg for group in (b"loc", b"log_scale")] == [False, True]


def test_a_checkpoint_at_step_zero_is_drawn(tmp_path):
    analysis = analyse(write_results(tmp_path / "r", ["reparam"], 3, rounds=0))
    analysis.results.gradients["step"] = analysis.results.gradients["step"].replace(1, 0)
    assert next(draw_statistics(source_of(analysis, ["reparam"]))).name == "gradient_variance"


def test_problems_have_files_of_their_own(tmp_path):
    problems = ["vae", 'vae[path="../x"]']
    path = write_results(tmp_path / "r", ["reparam"], 1, problems=problems, replicates=0, rounds=0)
    names = [figure.name for figure in all_figures(analyse(path))]
    drawn = ["elbo_steps", "elbo_seconds", "elbo_gap", "iwae_steps", "bound_parts", "pictures"]  # all cost the same
    ends = ("1-path-default", "2-path-x")
    in_order = [f"{name}-{end}" for names in (drawn[:4], drawn[4:5], drawn[5:]) for end in ends for name in names]
    assert names == in_order


@pytest.mark.slow
def test_the_users_settings_do_not_show(analysis, figures):
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        again = {figure.name: figure.svg for figure in all_figures(analysis)}
    assert again == {name: figure.svg for name, figure in figures.items()}


def test_styles_differ_and_depend_on_the_order_alone():
    labels = [f"e{at}" for at in range(90)]
    chosen = line_styles(labels)
    assert len({style[:3] for style in chosen.values()}) == 90
    assert [style.place for style in chosen.values()] == list(range(90))
    assert line_styles(labels[:7]) == {label: chosen[label] for label in labels[:7]}
    few = list(chosen.values())[: len(MARKERS)]
    for part in zip(*few, strict=True):
        assert len(set(part)) == len(few)
    assert math.gcd(len(COLOURS), len(DASHES)) == 1


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_has_a_contrast_of_three_to_one_on_white(colour):
    assert 1.05 / (luminance(colour) + 0.05) >= 3


def test_the_data_behind_a_curve_are_its_means_and_ends(analysis, figures):
    data = figures["elbo_steps"].data
    curves = analysis.results.curves
    values = curves[
        (curves["estimator"] == "reparam")
        & (curves["step"] == 2000)
        & (curves["metric"] == "elbo")
        & (curves["split"] == "test")
    ]["value"]
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    drawn = data[(data["estimator"] == "reparam") & (data["step"] == 2000)].iloc[0]
    assert (drawn["n"], drawn["seed"]) == (4, "mean")
    assert [drawn["elbo"], drawn["low"], drawn["high"]] == pytest.approx([values.mean(), low, high])
    diverged = data[(data["estimator"] == "reinforce") & (data["status"] == "diverged")]
    assert set(diverged["seed"]) == {"0"}
    evaluations = figures["elbo_evaluations"].data
    last = evaluations[evaluations["seed"] == "mean"].groupby("estimator")["evaluations"].max()
    assert last["rloo[num_samples=4]"] == 4 * last["reparam"] == 4 * 2000 * 100


def test_the_snr_is_a_mean_over_seeds(analysis, figures):
    data, frame = figures["gradient_snr"].data, analysis.results.gradients
    values = frame[
        (frame["estimator"] == "stl")
        & (frame["step"] == 2000)
        & (frame["group"] == "loc")
        & (frame["statistic"] == "snr")
    ]["value"]
    drawn = data[(data["estimator"] == "stl") & (data["step"] == 2000) & (data["group"] == "loc")].iloc[0]
    assert drawn["value"] == pytest.approx(values.mean())
    assert drawn["n"] == len(values) == 3


@pytest.mark.slow
def test_bias_and_the_shared_trajectory_are_drawn_where_there_are_any(tmp_path):
    analysis = analyse(write_results(tmp_path / "r", ["reparam", "detached"], 3, rounds=0))
    before = [figure.name for figure in draw_statistics(source_of(analysis, ["reparam", "detached"]))]
    assert before == ["gradient_variance", "gradient_snr"]
    frame = analysis.results.gradients
    bias = frame[frame["statistic"] == "mean_norm2"].assign(statistic="bias2")
    bias.loc[bias["estimator"] == "reparam", "value"] *= -1
    results = dataclasses.replace(analysis.results)
    results.__dict__["gradients"] = pd.concat([frame, bias, frame.assign(trajectory="shared")], ignore_index=True)
    figures = {figure.name: figure for figure in all_figures(Analysis(results))}
    assert [name for name in figures if name.startswith("gradient")] == [
        "gradient_variance_shared",
        "gradient_variance",
        "gradient_snr_shared",
        "gradient_snr",
        "gradient_bias",
    ]
    assert "left out for a seed or more: reparam (decoder)" in figures["gradient_bias"].caption
    assert {series.estimator for series in figures["gradient_bias"].series} == {1}
    assert "one neutral run" in figures["gradient_variance_shared"].caption
    assert "its own training" in figures["gradient_variance"].caption


def test_points_that_are_read_lie_where_they_are_drawn(figures):
    """The markers of the dot plot are in the SVG at the very places that the page reads them from."""
    figure = figures["variance_cost"]
    svg = figure.svg.decode()
    places = [point for series in figure.series for point in series.points]
    assert len(places) == 3 * 6
    uses = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg)]
    for x, y, words in places:
        assert min(math.hypot(x - across, y - down) for across, down in uses) < 0.2
        assert "n = " in words


def test_every_estimator_is_marked_in_every_figure_and_ids_are_unique(figures):
    for figure in figures.values():
        ids = re.findall(r' id="([^"]+)"', figure.svg.decode())
        assert len(ids) == len(set(ids))
        assert {one.split("-")[1] for one in ids if one.startswith("estimator-")} == {str(at) for at in range(6)}
        assert {series.estimator for series in figure.series} <= set(range(6))
        drawing = inline_svg(figure)
        assert "<!--" not in drawing
        assert "<style" not in drawing
        assert drawing.count("data-estimator=") >= 6


def test_labels_never_overlap():
    rng = np.random.default_rng(0)
    for _ in range(200):
        wanted = sorted(rng.uniform(0, 1, rng.integers(1, 9)))
        sizes = rng.uniform(0.02, 0.1, len(wanted))
        places = avoid_overlap(wanted, sizes)
        for at in range(1, len(places)):
            assert places[at] - places[at - 1] >= (sizes[at - 1] + sizes[at]) / 2 - 1e-9
        assert max(places) <= 1 + 1e-9
    assert avoid_overlap([0.2, 0.8], [0.1, 0.1]) == [0.2, 0.8]


def test_text_is_drawn_as_it_is():
    assert matplotlib_text("a$b$c") == r"a\$b\$c"
    assert matplotlib_text("two\nlines\t\u4e2d") == "two lines ?"
    assert len(matplotlib_text("x" * 200)) == 60
    assert wrap_label("reinforce[baseline=ema,decay=0.9]").count("\n") == 1
    assert wrap_label("stl") == "stl"


@pytest.mark.parametrize("variance", [2.0, 0.0])
def test_a_probe_is_drawn_even_if_nothing_varies(variance):
    row = {"estimator": "reparam", "space": "weights", "group": "encoder", "statistic": "variance", "value": variance}
    costs = {"evaluations": 1, "milliseconds": 2.0, "replicates": 10}
    statistics = pd.DataFrame([row | {"low": variance / 2, "high": variance * 2} | costs])
    panels = draw_probe(statistics, line_styles(["reparam"])).axes
    titles = ["encoder (weights)" if variance else "no estimator has any variance", "", ""]
    assert [axes.get_title(loc="left") or axes.get_title() for axes in panels] == titles


@pytest.mark.parametrize(
    ("scale", "limits", "expected"),
    [
        ({"value": "log"}, (0.001, 1000), ["10⁻³", "10⁻¹", "10¹", "10³"]),
        ({"value": "log", "base": 2}, (1, 16), ["2⁰", "2²", "2⁴"]),
        ({"value": "log"}, (20, 60), [f"{times}{TIMES}10¹" for times in (2, 3, 4, 6)]),
        ({"value": "symlog", "linthresh": 10}, (0, 1000), ["0", "10¹", "10²", "10³"]),
    ],
)
def test_labels_of_a_log_scale_are_texts(scale, limits, expected):
    """Matplotlib takes ten milliseconds to read each formula."""
    with matplotlib_style():
        figure = Figure()
        axes = figure.subplots()
        axes.set_xscale(**scale)
        axes.set_xlim(*limits)
        write_plain_powers(axes)
        figure.draw_without_rendering()
        low, high = axes.get_xlim()
        ticks = [*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks()]
        shown = [(tick.get_loc(), tick.label1.get_text()) for tick in ticks if low <= tick.get_loc() <= high]
    labels = [text for _, text in sorted(shown) if text]
    assert set(expected) <= set(labels)
    assert not [label for label in labels if "$" in label]
