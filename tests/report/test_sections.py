"""Tables and figures register themselves with a section of the page, and the page shows each in its place."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from records import analyse, write_results

from estbench.errors import EstbenchError
from estbench.plugins import load_plugin
from estbench.report import build
from estbench.report.figures import Canvas, Margins, all_figures, register_figure
from estbench.report.figures.registry import FIGURES
from estbench.report.page.render import part, render
from estbench.report.sections import SECTIONS
from estbench.report.tables import all_tables, register_table
from estbench.report.tables.fields import ESTIMATOR, Field, build_table
from estbench.report.tables.registry import TABLES

KINDS = {"table": (TABLES, register_table), "figure": (FIGURES, register_figure)}
PLUGIN = """
from estbench.report.figures import Canvas, Margins, belongs_to, register_figure


@register_figure(section="convergence")
def draw_steps(source):
    cells = source.analysis.cells
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
    """Registries without the tables and figures of estbench; what a test registers is forgotten after it."""
    for registry, _ in KINDS.values():
        for name in list(registry):
            monkeypatch.delitem(registry, name)
    yield
    for registry, _ in KINDS.values():
        registry.clear()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("r") / "r", ["reparam", "stl"], 2, replicates=0, rounds=2)


@pytest.fixture(scope="module")
def analysis(path):
    return analyse(path)


def register_both(section, **place):
    """Register a figure and a table with one row, called after where they stand."""

    def make_table(analysis):
        rows = [{"estimator": "reparam", "seed": 0}]
        return build_table(make_table.__name__, f"table of {title}", "", [ESTIMATOR, Field("seed", "seed")], rows)

    def draw(source):
        canvas = Canvas.single(0.5, Margins(0.1, 0.1, 0.1, 0.1))
        canvas.panels[0, 0].set_axis_off()
        words = {"title": f"figure of {title}", "chart": "Empty chart", "alt": title, "caption": "", "reading": ""}
        yield canvas.finish(name=title, data=source.analysis.cells[["seed"]], **words)

    title = f"{section}_{place.get('order', '')}"
    make_table.__name__, draw.__name__ = f"table_{title}", f"draw_{title}"
    register_table(section=section, **place)(make_table)
    register_figure(section=section, each_problem=False, **place)(draw)


def section_of(page, key):
    return page.partition(f'<section id="{key}">')[2].partition("</section>")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_is_registered_has_a_section_a_name_and_words(kind):
    registry, _ = KINDS[kind]
    assert len(registry) >= 6
    for name, item in registry.items():
        assert item.place.section in SECTIONS
        assert item.name == name
        assert item.make.__doc__
    order = [list(SECTIONS).index(item.place.section) for item in registry.in_order()]
    assert order == sorted(order)


def test_sections_have_unique_titles():
    assert len(set(SECTIONS.values())) == len(SECTIONS)


def test_the_page_has_every_section():
    shown = re.findall(r'lay_out\("(.*?)"\)', part("template.html.j2"))
    assert ["answer", *shown] == list(SECTIONS)  # the answer has a layout of its own


@pytest.mark.usefixtures("nothing_registered")
def test_tables_and_figures_show_in_the_section_and_in_the_order_that_they_name(analysis):
    for key in SECTIONS:
        for place in ({"order": 30}, {}, {"order": 0, "folded": f"All of {key}"}):
            register_both(key, **place)
    figures, tables = all_figures(analysis), all_tables(analysis)
    for items in (figures, tables):
        assert [item.place.section for item in items] == [key for key in SECTIONS for _ in range(3)]
        assert [item.place.order for item in items[:3]] == sorted(item.place.order for item in items[:3])
    page = render(analysis, tables, figures)
    for key in SECTIONS:
        assert f'<a href="#{key}">' in page
        section = section_of(page, key)
        titles = re.findall(r"(?:<h3>|<caption>|<summary>)((?:table of|figure of|All of)[^<]*)<", section)
        if key == "answer":  # tables, figures, and what is folded
            assert titles[:2] == ["table of answer_", "table of answer_30"]
            assert sorted(titles[2:4]) == ["figure of answer_", "figure of answer_30"]
            continue
        assert titles == [
            f"All of {key}",
            f"table of {key}_0",
            f"All of {key}",
            f"figure of {key}_0",
            f"figure of {key}_",
            f"table of {key}_",
            f"table of {key}_30",
            f"figure of {key}_30",
        ]


@pytest.fixture
def made_up():
    """A table of our own, which is gone after the test."""

    @register_table(section="throughput")
    def slowest_rounds(analysis):
        slowest = analysis.results.throughput.groupby("estimator", sort=False)["seconds"].max()
        rows = slowest.reset_index().to_dict("records")
        fields = [ESTIMATOR, Field("seconds", "slowest round", write="{:.1f} s".format)]
        return build_table("slowest_rounds", "The slowest rounds", "Seconds of a round.", fields, rows)

    yield slowest_rounds
    del TABLES["slowest_rounds"]


def test_every_table_is_made_from_fields_of_its_own(analysis):
    """A key that is given twice is an error, so that a table that is made has none."""
    tables = all_tables(analysis)
    absent = {
        "own_metrics",
        "origins",
        "sensitivity",
        "throughput_by_size",
        "gradient_variance_shared",
        "gradient_variance",
    }
    assert {table.name for table in tables} == set(TABLES) - absent
    for what in ("name", "title"):
        assert len({getattr(table, what) for table in tables}) == len(tables)
    for table in tables:
        titles = [column.title for column in table.columns]
        assert len(set(titles)) == len(titles)
        assert {len(row) for row in table.rows} == {len(titles)}


@pytest.mark.slow
def test_a_table_that_is_registered_is_in_the_page_and_among_the_files(tmp_path, made_up):
    path = write_results(tmp_path / "r", ["reparam", "stl"], 1, replicates=0, rounds=2)
    page = build(path, ["html", "csv"]).read_text(encoding="utf-8")
    section = page.partition('<section id="throughput">')[2].partition("</section>")[0]
    assert "<caption>The slowest rounds</caption>" in section
    written = pd.read_csv(path / "report" / "tables" / "slowest_rounds.csv")
    assert list(written.columns) == ["estimator", "seconds"]
    assert list(written["estimator"]) == ["reparam", "stl"]
    seconds = analyse(path).results.throughput.groupby("estimator")["seconds"].max()
    assert written["seconds"].tolist() == pytest.approx(seconds[written["estimator"]].tolist())


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


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_section_is_an_error_that_names_the_nearest(kind):
    with pytest.raises(EstbenchError, match=r"no section 'varience'.*did you mean 'variance'"):
        KINDS[kind][1](section="varience")(lambda source: None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("nothing_registered")
def test_a_name_belongs_to_the_module_that_registered_it_first(kind):
    registry, register = KINDS[kind]
    register_both("cite")
    (item,) = registry.values()
    assert register(section="pairwise")(item.make) is item.make
    assert registry[item.name].place.section == "pairwise"
    stranger = type(item.make)(item.make.__code__, {}, item.name, closure=item.make.__closure__)
    stranger.__module__ = "elsewhere"
    with pytest.raises(EstbenchError, match=f"a {kind} '{item.name}' exists already"):
        register(section="cite")(stranger)


@pytest.mark.usefixtures("nothing_registered")
def test_names_of_tables_and_figures_are_their_own(analysis):
    register_both("cite")
    (table, figure) = (next(iter(registry.values())).make for registry in (TABLES, FIGURES))
    for make, registry, name in ((table, TABLES, "table_elsewhere"), (figure, FIGURES, "draw_elsewhere")):
        copy = type(make)(make.__code__, make.__globals__, name, closure=make.__closure__)
        KINDS["table" if registry is TABLES else "figure"][1](section="cite")(copy)
    with pytest.raises(EstbenchError, match="the function 'table_elsewhere' makes a table 'table_cite_'"):
        all_tables(analysis)
    with pytest.raises(EstbenchError, match="two figures are called 'cite_'"):
        all_figures(analysis)
