"""Figures: consistent looks, labels apart, what is off the scale is said, the user's settings are left alone."""

from __future__ import annotations

import dataclasses
import math
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from records import write_results

from estbench.report.figures import all_figures, bounds, gradients
from estbench.report.figures.style import COLOURS, DASHES, MARKERS, folded, looks, plain, spread
from estbench.report.page.svg import inline_svg
from estbench.store import load

NAMES = [
    "elbo_steps",
    "elbo_evaluations",
    "elbo_seconds",
    "gradient_variance",
    "gradient_snr",
    "variance_cost",
    "throughput",
    "profile",
]


@pytest.fixture(scope="module")
def pictures(results):
    before = dict(mpl.rcParams)
    made = {picture.name: picture for picture in all_figures(results)}
    assert dict(mpl.rcParams) == before
    return made


def test_every_figure_is_there_with_its_words(pictures):
    assert list(pictures) == NAMES
    for picture in pictures.values():
        assert picture.svg.lstrip().startswith(b"<?xml")
        files = picture.files()
        assert list(files) == ["svg", "png", "pdf", "csv"]
        assert list(picture.files(["csv", "html", "png"])) == ["png", "csv"]
        assert files["png"].startswith(b"\x89PNG")
        assert files["pdf"].startswith(b"%PDF")
        assert b"Date" not in files["pdf"]
        assert len(picture.svg) < 400_000
        assert b"<dc:date>" not in picture.svg
        assert picture.reading.startswith("How to read it")
        for estimator in ("reparam", "rloo[num_samples=4]"):
            assert estimator in picture.alt


def test_captions_say_n_and_what_the_band_is(pictures):
    for name in ("elbo_steps", "gradient_variance", "variance_cost"):
        caption = pictures[name].caption
        assert "95 % t interval" in caption
        assert "reinforce: n = 3" in caption
        assert "reparam: n = 4" in caption
    assert "n = 8 rounds" in pictures["throughput"].caption


def test_failed_and_diverged_runs_are_named_and_do_not_squash_the_others(pictures):
    picture = pictures["elbo_steps"]
    below = picture.caption.partition("Off the scale, below: ")[2]
    assert "reinforce \N{MINUS SIGN}5" in below
    assert "(1 diverged)" in below
    assert "reparam" not in below


def test_an_estimator_without_a_finite_bound_is_named(tmp_path):
    statuses = {("stl", 0): "diverged", ("reinforce", 0): None}
    path = write_results(tmp_path / "r", ["reparam", "stl", "reinforce"], 1, statuses=statuses, stops={("stl", 0): 0})
    picture = bounds.draw(load(path), "vae", "step", looks(["reparam", "stl", "reinforce"]))
    assert "No curve: stl (diverged at step 0), reinforce (missing)." in picture.caption
    assert "stl (diverged at step 0)" in picture.alt


def test_a_zero_variance_is_said_not_drawn(tmp_path):
    path = write_results(tmp_path / "r", ["reparam", "detached"], 3, rounds=0)
    results = load(path)
    frame = results.gradients
    frame.loc[(frame["estimator"] == "detached") & (frame["group"] == "loc"), ["value", "low", "high"]] = 0.0
    picture = gradients.draw(results, "vae", looks(["reparam", "detached"]))
    assert "detached (loc)" in picture.caption


def test_a_gradient_that_never_varies_has_no_panel(tmp_path):
    results = load(write_results(tmp_path / "r", ["reparam", "stl"], 3, rounds=0))
    frame = results.gradients
    frame.loc[frame["group"] == "loc", ["value", "low", "high"]] = 0.0
    picture = gradients.draw(results, "vae", looks(["reparam", "stl"]))
    assert "Not drawn, for it is never above zero: loc." in picture.caption
    assert "loc (params)" not in picture.alt
    assert "log_scale (params)" in picture.alt
    assert [b"<!-- %s (" % group in picture.svg for group in (b"loc", b"log_scale")] == [False, True]


def test_a_checkpoint_at_step_zero_is_drawn(tmp_path):
    results = load(write_results(tmp_path / "r", ["reparam"], 3, rounds=0))
    results.gradients["step"] = results.gradients["step"].replace(1, 0)
    assert gradients.draw(results, "vae", looks(["reparam"])) is not None


def test_problems_have_files_of_their_own(tmp_path):
    problems = ["vae", 'vae[path="../x"]']
    path = write_results(tmp_path / "r", ["reparam"], 1, problems=problems, replicates=0, rounds=0)
    names = [picture.name for picture in all_figures(load(path))]
    assert names == [f"{name}-{end}" for end in ("1-vae", "2-vae-path-x") for name in NAMES[:3]]


@pytest.mark.slow
def test_the_users_settings_do_not_show(results, pictures):
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        again = {picture.name: picture.svg for picture in all_figures(results)}
    assert again == {name: picture.svg for name, picture in pictures.items()}


def test_looks_differ_and_depend_on_the_order_alone():
    labels = [f"e{at}" for at in range(90)]
    chosen = looks(labels)
    assert len({look[:3] for look in chosen.values()}) == 90
    assert [look.place for look in chosen.values()] == list(range(90))
    assert looks(labels[:7]) == {label: chosen[label] for label in labels[:7]}
    few = list(chosen.values())[: len(MARKERS)]
    for part in zip(*few, strict=True):
        assert len(set(part)) == len(few)
    assert math.gcd(len(COLOURS), len(DASHES)) == 1


def test_the_data_behind_a_curve_are_its_means_and_ends(results, pictures):
    data = pictures["elbo_steps"].data
    curves = results.curves
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
    evaluations = pictures["elbo_evaluations"].data
    last = evaluations[evaluations["seed"] == "mean"].groupby("estimator")["evaluations"].max()
    assert last["rloo[num_samples=4]"] == 4 * last["reparam"] == 4 * 2000 * 100


def test_the_snr_is_a_mean_over_seeds(results, pictures):
    data, frame = pictures["gradient_snr"].data, results.gradients
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
    results = load(write_results(tmp_path / "r", ["reparam", "detached"], 3, rounds=0))
    chosen = looks(["reparam", "detached"])
    assert gradients.draw(results, "vae", chosen, "bias2") is None
    frame = results.gradients
    bias = frame[frame["statistic"] == "mean_norm2"].assign(statistic="bias2")
    bias.loc[bias["estimator"] == "reparam", "value"] *= -1
    results = dataclasses.replace(results)  # one that was not asked yet
    results.__dict__["gradients"] = pd.concat([frame, bias, frame.assign(trajectory="shared")], ignore_index=True)
    pictures = {picture.name: picture for picture in all_figures(results)}
    assert [name for name in pictures if name.startswith("gradient")] == [
        "gradient_variance_shared",
        "gradient_snr_shared",
        "gradient_variance",
        "gradient_snr",
        "gradient_bias",
    ]
    assert "Zero or below for some seed at some checkpoint: reparam (decoder)" in pictures["gradient_bias"].caption
    assert {series.estimator for series in pictures["gradient_bias"].series} == {1}
    assert "one neutral run" in pictures["gradient_variance_shared"].caption
    assert "its own training" in pictures["gradient_variance"].caption


def test_points_that_are_read_lie_where_they_are_drawn(pictures):
    """The markers of the dot plot are in the SVG at the very places that the page reads them from."""
    picture = pictures["variance_cost"]
    svg = picture.svg.decode()
    places = [point for series in picture.series for point in series.points]
    assert len(places) == 3 * 6
    uses = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg)]
    for x, y, words in places:
        assert min(math.hypot(x - across, y - down) for across, down in uses) < 0.2
        assert "n = " in words


def test_every_estimator_is_marked_in_every_figure_and_ids_are_unique(pictures):
    for picture in pictures.values():
        ids = re.findall(r' id="([^"]+)"', picture.svg.decode())
        assert len(ids) == len(set(ids))
        assert {one.split("-")[1] for one in ids if one.startswith("estimator-")} == {str(at) for at in range(6)}
        assert {series.estimator for series in picture.series} <= set(range(6))
        drawing = inline_svg(picture)
        assert "<!--" not in drawing
        assert "<style" not in drawing
        assert drawing.count("data-estimator=") >= 6


def test_labels_never_overlap():
    rng = np.random.default_rng(0)
    for _ in range(200):
        wanted = sorted(rng.uniform(0, 1, rng.integers(1, 9)))
        sizes = rng.uniform(0.02, 0.1, len(wanted))
        places = spread(wanted, sizes)
        for at in range(1, len(places)):
            assert places[at] - places[at - 1] >= (sizes[at - 1] + sizes[at]) / 2 - 1e-9
        assert max(places) <= 1 + 1e-9
    assert spread([0.2, 0.8], [0.1, 0.1]) == [0.2, 0.8]


def test_text_is_drawn_as_it_is():
    assert plain("a$b$c") == r"a\$b\$c"
    assert plain("two\nlines\t\u4e2d") == "two lines ?"
    assert len(plain("x" * 200)) == 60
    assert folded("reinforce[baseline=ema,decay=0.9]").count("\n") == 1
    assert folded("stl") == "stl"
