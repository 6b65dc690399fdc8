"""The registry of figures: a figure is one file, and the page shows it in the section that it names."""

from __future__ import annotations

import pytest
from records import write_results

from estbench.errors import EstbenchError
from estbench.plugins import load_plugin
from estbench.report import build
from estbench.report.figures import Canvas, Margins, all_figures, register_figure, registered_figures, registry
from estbench.report.page.render import render as render_page
from estbench.report.page.sections import SECTIONS
from estbench.report.tables import all_tables
from estbench.store import load

KEYS = [key for key, _ in SECTIONS]
PLUGIN = """
from estbench.report.figures import Canvas, Margins, belongs_to, register_figure


@register_figure(section="convergence")
def draw_steps(source):
    cells = source.results.cells
    cells = cells[cells["problem"] == source.problem]
    canvas = Canvas.single(2.0, Margins(left=0.12, right=0.03, top=0.2, bottom=0.5))
    (axes,) = canvas.panels.flat
    for label, rows in cells.groupby("estimator"):
        with belongs_to(axes, source.styles[label]):
            axes.plot(rows["seed"], rows["step"], "o")
        points = [(row.seed, row.step, f"seed {row.seed}") for row in rows.itertuples()]
        canvas.add_points(axes, source.styles[label], points)
    yield canvas.finish(
        name="steps",
        title="Steps of each cell",
        chart="Dot plot",
        alt="Where each cell ended.",
        caption="One dot for each seed.",
        reading="How to read it: higher is longer.",
        data=cells[["estimator", "seed", "step"]],
    )
"""


@pytest.fixture
def nothing_registered(monkeypatch):
    """A registry without estbench's own figures; what a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_REGISTERED", {})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("r") / "r", ["reparam", "stl"], 2, replicates=0, rounds=0)


def register_made_up(section, *, below_tables, name=None):
    """Register an empty figure, called after where it stands."""

    def draw(source):
        canvas = Canvas.single(0.5, Margins(0.1, 0.1, 0.1, 0.1))
        canvas.panels[0, 0].set_axis_off()
        title = f"Made up for {section}{' below' if below_tables else ''}"
        words = {"title": title, "chart": "Empty chart", "alt": title, "caption": "", "reading": ""}
        yield canvas.finish(name=name or title.replace(" ", "_"), data=source.results.cells[["seed"]], **words)

    draw.__name__ = f"draw_{section}_{below_tables}"
    register_figure(section=section, below_tables=below_tables, each_problem=False)(draw)


def section_of(page, key):
    return page.partition(f'<section id="{key}">')[2].partition("</section>")[0]


def test_every_figure_stands_in_a_section_of_the_page(page):
    figures = registered_figures()
    assert {figure.section for figure in figures} <= set(KEYS)
    assert [KEYS.index(figure.section) for figure in figures] == sorted(KEYS.index(each.section) for each in figures)
    names = [figure.name for figure in figures]
    assert len(names) == len(set(names)) >= 6
    assert all(figure.draw.__doc__ for figure in figures)
    for key in {figure.section for figure in figures} - {"sensitivity"}:
        assert "<figure" in section_of(page, key)


def test_sections_have_unique_keys_and_titles():
    assert len(set(KEYS)) == len({title for _, title in SECTIONS}) == len(SECTIONS)


@pytest.mark.usefixtures("nothing_registered")
def test_a_figure_shows_in_whatever_section_it_names(path):
    for key in KEYS:
        for below_tables in (True, False):
            register_made_up(key, below_tables=below_tables)
    results = load(path)
    figures = all_figures(results)
    assert [(figure.section, figure.below_tables) for figure in figures] == [
        (key, below) for key in KEYS for below in (False, True)
    ]
    page = render_page(results, all_tables(results), figures)
    for key in KEYS:
        assert f'<a href="#{key}">' in page
        section = section_of(page, key)
        above = section.find(f"<h3>Made up for {key}</h3>")
        below = section.find(f"<h3>Made up for {key} below</h3>")
        assert 0 < above < below
        table = section.find("<table")
        if key != "target" and table > 0:  # a table of that section stands above the figures
            assert above < table < below


@pytest.mark.usefixtures("nothing_registered")
def test_a_plugin_brings_a_figure(tmp_path, path):
    plugin = tmp_path / "my_figure.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    for _ in range(2):  # the second time, it replaces itself
        load_plugin(plugin)
    page = build(path, ["html", "svg", "csv"], out=tmp_path / "out").read_text(encoding="utf-8")
    section = section_of(page, "convergence")
    assert section.count("<h3>Steps of each cell</h3>") == 1
    assert 'aria-label="Dot plot. Where each cell ended."' in section
    assert section.count("data-estimator=") == 2
    assert "seed 1" in section
    written = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    assert written == {"steps.svg", "steps.csv"}


@pytest.mark.usefixtures("nothing_registered")
def test_an_unknown_section_is_an_error_that_names_the_nearest():
    with pytest.raises(EstbenchError, match="did you mean 'throughput'"):
        register_figure(section="thruoghput")


@pytest.mark.usefixtures("nothing_registered")
def test_names_are_unique(path):
    register_made_up("cite", below_tables=False)
    known = registered_figures()[0].draw
    stranger = type(known)(known.__code__, known.__globals__, known.__name__, closure=known.__closure__)
    stranger.__module__ = "elsewhere"
    with pytest.raises(EstbenchError, match="registered already"):
        register_figure(section="cite")(stranger)
    register_made_up("cite", below_tables=True, name="Made_up_for_cite")
    with pytest.raises(EstbenchError, match="two figures"):
        all_figures(load(path))
