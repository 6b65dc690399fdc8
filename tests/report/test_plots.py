"""``results.plot``: the report's own figures, by name."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from records import write_results

from estbench import EstbenchError, load
from estbench.report.analysis import Analysis
from estbench.report.figures import all_figures

TWO = ["vae[latent_size=4]", "vae[latent_size=5]"]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "r"
    write_results(folder, ["reparam", "stl"], 2)
    return load(folder)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "r"
    write_results(folder, ["reparam", "stl"], 2, problems=TWO, replicates=0, rounds=0)
    return load(folder)


def words_of(figure):
    return [text.get_text() for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]


def test_every_figure_of_the_report_is_there(one):
    figures = {figure.name: figure for figure in all_figures(Analysis(one))}
    assert set(figures) <= set(dir(one.plot))
    for name in dir(one.plot):
        drawn = getattr(one.plot, name)()
        assert type(drawn) is Figure
        if name in figures:
            assert words_of(drawn) == words_of(figures[name].figure)


@pytest.mark.parametrize("name", ["elbo", "gradients", "final_bounds", "throughput"])
def test_short_names_are_figures(one, name):
    assert isinstance(getattr(one.plot, name)(), Figure)
    assert getattr(one.plot, name).__name__ == name
    assert name in repr(one.plot)


def test_each_call_draws_anew(one):
    assert one.plot.elbo() is not one.plot.elbo()


def test_an_unknown_name_is_an_error_that_names_the_nearest(one):
    with pytest.raises(AttributeError, match=r"no figure 'final_bound'; did you mean 'final_bounds'"):
        _ = one.plot.final_bound
    assert not hasattr(one.plot, "_repr_html_")


def test_one_of_several_problems_is_named(two):
    first, second = (two.plot.elbo(problem=problem) for problem in TWO)
    lines = [
        [[float(y) for y in line.get_ydata()] for axes in figure.axes for line in axes.lines]
        for figure in (first, second)
    ]
    assert lines[0] != lines[1]
    with pytest.raises(EstbenchError, match="name one of the problems"):
        two.plot.elbo()
    with pytest.raises(EstbenchError, match="no problem 'vae'"):
        two.plot.elbo(problem="vae")


def test_what_is_over_all_problems_takes_none(two):
    assert isinstance(two.plot.profile(), Figure)
    with pytest.raises(EstbenchError, match="leave out problem="):
        two.plot.profile(problem=TWO[0])


def test_results_without_a_run_have_no_figures(tmp_path):
    write_results(tmp_path / "r", ["reparam"], 1, statuses={("reparam", 0): None}, replicates=0, rounds=0)
    assert dir(load(tmp_path / "r").plot) == []
