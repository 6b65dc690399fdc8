"""Figures in views: which there are, what is drawn once, and what the data behind them are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from records import analyse, drawn_alone, write_results

from estbench.errors import EstbenchError
from estbench.report.figures import FigureSource, all_figures
from estbench.report.figures.bounds import draw_bounds
from estbench.report.figures.pareto import Place, find_front
from estbench.report.figures.pictures import draw_pictures
from estbench.report.figures.style import COLOURS, line_styles
from estbench.store.tables import PICTURES, write_table

RLOO = "rloo[num_samples=4]"


def source_of(analysis, problem="vae"):
    return FigureSource(analysis, line_styles(analysis.estimators), problem)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "r"
    return analyse(write_results(path, ["reparam", "stl", RLOO], 3, shared=True))


@pytest.fixture(scope="module")
def figures(shared):
    return {figure.name: figure for figure in all_figures(shared)}


def test_views_of_one_thing_are_one_group(figures):
    groups = {
        group: [figure.tab for figure in of_group]
        for group, of_group in itertools.groupby(figures.values(), lambda figure: figure.group)
        if group
    }
    assert groups == {
        "Test bound during training": ["steps", "evaluations", "seconds", "gap to the best", "IWAE-16"],
        "Would a better estimator help?": ["same weights", "own weights"],
        "Gradient variance against training steps": ["same weights", "own weights"],
        "Signal-to-noise ratio of the gradient against training steps": ["same weights", "own weights"],
        "Gradient variance and its cost": ["same weights", "own weights"],
    }


@pytest.mark.parametrize(
    ("label", "tabs"),
    [
        ("vae", ["steps", "seconds", "gap to the best", "IWAE-16"]),
        ("vae[importance_samples=5]", ["steps", "seconds", "gap to the best", "ELBO"]),
    ],
)
def test_the_first_view_is_of_the_bound_that_is_ascended(tmp_path, label, tabs):
    """Where every step costs the same number of evaluations, curves against evaluations are left out."""
    analysis = analyse(write_results(tmp_path / "r", ["reparam", "stl"], 3, problems=[label], rounds=0))
    drawn = list(draw_bounds(source_of(analysis, label)))
    assert [figure.tab for figure in drawn] == tabs
    assert drawn[0].name == ("elbo_steps" if label == "vae" else "iwae_steps")


def test_every_seed_of_a_curve_is_in_its_data(shared, figures):
    recorded = shared.results.curves.query("metric == 'elbo' and split == 'test' and estimator == 'stl'")
    data = figures["elbo_steps"].data.query("estimator == 'stl'")
    for seed in (0, 1, 2):
        expected = recorded[recorded["seed"] == seed].set_index("step")["value"]
        drawn = data[data["seed"] == str(seed)].set_index("step")["elbo"]
        assert drawn.to_dict() == pytest.approx(expected.to_dict())
    at_end = recorded[recorded["step"] == 2000]["value"]
    mean = data[(data["seed"] == "mean") & (data["step"] == 2000)].iloc[0]
    half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(at_end)
    np.testing.assert_allclose([mean["elbo"], mean["low"], mean["high"]], at_end.mean() + half * np.array([0, -1, 1]))


def test_gaps_are_measured_from_the_best_final_mean(shared, figures):
    recorded = shared.results.curves.query("metric == 'elbo' and split == 'test' and step > 0")
    best = recorded[recorded["step"] == 2000].groupby("estimator")["value"].mean().max()
    data = figures["elbo_gap"].data.query("seed == 'mean'")
    for label, rows in data.groupby("estimator"):
        expected = best - recorded[recorded["estimator"] == label].groupby("step")["value"].mean()
        assert rows.set_index("step")["gap"].to_dict() == pytest.approx(expected.to_dict(), abs=1e-9)


def test_runs_of_a_collapsed_estimator_have_no_mean(tmp_path):
    path = write_results(tmp_path / "r", ["reparam", "reinforce"], 3, rounds=0)
    analysis = analyse(path)
    curves = analysis.results.curves
    fell = (curves["estimator"] == "reinforce") & (curves["step"] == 2000) & (curves["seed"] == 1)
    curves.loc[fell, "value"] = -2000.0
    figure = next(draw_bounds(source_of(analysis)))
    data = figure.data[figure.data["estimator"] == "reinforce"]
    assert set(data["seed"]) == {"0", "1", "2"}
    assert "because a run collapsed" in figure.caption
    assert "(collapsed)" in figure.alt


def test_equal_curves_are_drawn_once_and_named(figures):
    same = figures["gradient_variance_shared"]
    named = same.caption.partition("Dark curve, the same for several estimators: ")[2]
    assert named.startswith(f"decoder: reparam, stl and {RLOO}.")
    assert "Dark curve" not in figures["gradient_variance"].caption
    assert len(same.data.query("group == 'decoder'")["estimator"].unique()) == 3


def test_parts_of_the_bound_add_up(shared, figures):
    data = figures["bound_parts"].data.pivot_table(index=["estimator", "step"], columns="part", values="value")
    elbo = shared.results.curves.query("metric == 'elbo' and split == 'test' and step > 0")
    expected = elbo.groupby(["estimator", "step"])["value"].mean()
    np.testing.assert_allclose(data["reconstruction"] - data["kl"], expected)


def test_a_problem_without_a_kl_has_no_parts(tmp_path):
    analysis = analyse(write_results(tmp_path / "r", ["reparam", "stl"], 3, rounds=0))
    curves = analysis.results.curves
    curves.loc[curves["metric"] == "kl", "value"] = 0.0
    with drawn_alone("draw_bounds", "draw_bound_parts"):
        names = [figure.name for figure in all_figures(analysis)]
    assert "elbo_steps" in names
    assert "bound_parts" not in names


def test_pictures_are_of_the_first_seed_that_most_have(tmp_path):
    statuses = {("stl", 0): None}
    analysis = analyse(write_results(tmp_path / "r", ["reparam", "stl"], 2, statuses=statuses, rounds=0))
    figure = next(draw_pictures(source_of(analysis)))
    assert "seed 1" in figure.caption
    assert b"data:image/png" in figure.svg
    assert set(figure.data["estimator"]) == {"reparam", "stl"}


@pytest.mark.parametrize(
    "damage", [{"shape": "9x9"}, {"shape": "4xx4"}, {"shape": "2x2x2x2"}, {"shape": "-1x-16"}, {"pixels": b"12"}]
)
def test_damaged_pictures_are_an_error_that_says_what_to_do(tmp_path, damage):
    path = write_results(tmp_path / "r", ["reparam"], 1, rounds=0)
    analysis = analyse(path)
    (folder,) = analysis.results.records
    picture = {"number": 0, "shape": "4x4", "pixels": bytes(16)} | damage
    rows = [{"kind": kind, **picture} for kind in ("original", "reconstruction", "sample")]
    write_table(path / "cells" / folder / "pictures.parquet", rows, PICTURES)
    with pytest.raises(EstbenchError, match=r"cannot read the pictures .* run again"):
        list(draw_pictures(source_of(analyse(path))))


@pytest.mark.parametrize(
    ("places", "front"),
    [
        ({"a": (1, 5), "b": (2, 1), "c": (3, 2)}, ["a", "b"]),
        ({"a": (1, 1), "b": (2, 1)}, ["a"]),
        ({"a": (1, 1), "b": (1, 2), "c": (0.5, 9)}, ["c", "a"]),
        ({"a": (1, 1)}, ["a"]),
    ],
)
def test_the_front_holds_who_is_not_beaten_in_both(places, front):
    assert find_front({label: Place(cost, value, 0, 0) for label, (cost, value) in places.items()}) == front


def lab(colour):
    """The CIE Lab coordinates of a colour."""
    levels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (np.cbrt(t) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def test_sixteen_colours_are_distinct():
    assert len(COLOURS) >= 16
    assert min(np.linalg.norm(lab(a) - lab(b)) for a, b in itertools.combinations(COLOURS, 2)) > 15
