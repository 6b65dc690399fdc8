"""``results.plot``: the report's own figures, by name."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from records import write_results

from estbench import EstbenchError, load, store
from estbench.report.analysis import Analysis
from estbench.report.figures import FigureSource, all_figures, register_figure
from estbench.report.figures.registry import FIGURES
from estbench.report.figures.style import line_styles, matplotlib_style

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
    return [(axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


@pytest.mark.slow
def test_every_figure_of_the_report_is_there(one):
    found, analysis = {}, Analysis(one)
    styles = line_styles(analysis.estimators)
    for registered in FIGURES.in_order():
        name = registered.name.removeprefix("draw_")
        name = "gradients" if name == "statistics" else name
        assert name in dir(one.plot)
        source = FigureSource(analysis, styles, "vae")
        with matplotlib_style():
            found[name] = {figure.name: figure.figure for figure in registered.make(source)}
    assert sum(map(len, found.values())) == len(all_figures(analysis)) > 5
    for name, figures in found.items():
        for which, figure in figures.items():
            drawn = getattr(one.plot, name)(which)
            assert type(drawn) is Figure
            assert words_of(drawn) == words_of(figure)


@pytest.mark.parametrize("name", ["elbo", "iwae", "bounds", "gradients", "final_bounds", "throughput"])
def test_a_name_alone_is_the_first_figure(one, name):
    method = getattr(one.plot, name)
    assert isinstance(method(), Figure)
    assert method.__name__ == name
    assert method.__doc__
    assert name in repr(one.plot)


def test_elbo_and_iwae_are_each_their_own(one):
    assert "ELBO" in one.plot.elbo().axes[0].get_ylabel()
    assert "IWAE" in one.plot.iwae().axes[0].get_ylabel()


def test_the_end_of_a_name_chooses(one):
    assert "seconds" in one.plot.elbo("seconds").axes[0].get_xlabel()
    with pytest.raises(EstbenchError, match="'elbo' has no figure 'second'; did you mean 'elbo_seconds'"):
        one.plot.elbo("second")


def test_each_call_draws_again_and_a_notebook_can_show_it(one):
    figure = one.plot.elbo()
    assert figure is not one.plot.elbo()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_unknown_name_is_an_error_that_names_the_nearest(one):
    with pytest.raises(AttributeError, match=r"no figure 'final_bound'; did you mean 'final_bounds'"):
        _ = one.plot.final_bound
    assert not hasattr(one.plot, "_repr_html_")


def test_a_figure_of_a_plugin_is_there(one):
    @register_figure(section="throughput")
    def draw_mine(source):
        """Draw nothing."""
        yield from ()

    try:
        assert "mine" in dir(one.plot)
        with pytest.raises(EstbenchError, match="no data for 'mine'"):
            one.plot.mine()
    finally:
        del FIGURES["draw_mine"]


def test_names_are_listed_without_drawing(one, monkeypatch):
    monkeypatch.setattr("estbench.report.analysis.Analysis", None)
    assert len(dir(load(one.path).plot)) > 5


def test_one_of_several_problems_is_named(two):
    first, second = (two.plot.elbo(problem=problem) for problem in TWO)
    lines = [
        [[float(y) for y in line.get_ydata()] for axes in figure.axes for line in axes.lines]
        for figure in (first, second)
    ]
    assert lines[0] != lines[1]
    with pytest.raises(EstbenchError, match="name it with problem=: vae"):
        two.plot.elbo()
    with pytest.raises(EstbenchError, match="no problem 'vae'"):
        two.plot.elbo(problem="vae")


def test_what_is_over_all_problems_takes_none(two):
    assert isinstance(two.plot.profile(), Figure)
    with pytest.raises(EstbenchError, match="leave out problem="):
        two.plot.profile(problem=TWO[0])


def test_without_data_there_is_no_figure(two, tmp_path):
    with pytest.raises(EstbenchError, match="no data for 'gradients'"):
        two.plot.gradients(problem=TWO[0])
    write_results(tmp_path / "r", ["reparam"], 1, statuses={("reparam", 0): None}, replicates=0, rounds=0)
    with pytest.raises(EstbenchError, match="no data for 'elbo'"):
        load(tmp_path / "r").plot.elbo()


def test_only_the_face_gives_results_their_figures(one, monkeypatch):
    monkeypatch.setattr("estbench.store.results._draw_with", None)
    with pytest.raises(EstbenchError, match=r"with estbench\.load"):
        _ = store.load(one.path).plot
