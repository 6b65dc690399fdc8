"""Figures, tables and metrics of one's own through `estbench run --plugin` and `estbench report --plugin`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from estbench.report.figures.registry import FIGURES
from estbench.report.tables.registry import TABLES

FIGURE = """
from estbench.report import Canvas, Margins, register_figure


@register_figure(section="throughput", each_problem=False)
def draw_{name}(source):
    \"\"\"Draw the steps of all runs.\"\"\"
    {begin}
    cells = source.analysis.cells
    canvas = Canvas.single(2.0, Margins(left=0.12, right=0.03, top=0.2, bottom=0.5))
    canvas.panels[0, 0].plot(cells["seed"], cells["step"], "o")
    words = {{"title": {title!r}, "alt": "Steps.", "caption": "All runs.", "reading": "How to read it: at once."}}
    yield canvas.finish(name={name!r}, data=cells[["seed", "step"]], **words)
    {end}
"""
TABLE = """
from estbench.report import ESTIMATOR, Field, build_table, register_table


@register_table(section="completion")
def {name}(analysis):
    \"\"\"Return the steps of all runs.\"\"\"
    {begin}
    rows = list(analysis.cells.itertuples())
    return {value}build_table({name!r}, {title!r}, "All runs.", [ESTIMATOR, Field("step", "steps"){more}], rows)
"""
GOOD = {"begin": "pass", "end": "pass", "title": "Steps of runs", "value": "", "more": ""}
SECTIONS = {"figure": "throughput", "table": "completion"}
TEXTS = {"figure": FIGURE, "table": TABLE}


def write(kind, file="mine.py", **changes):
    """Write a plugin with a figure or a table in the working folder."""
    name = changes.pop("name", f"my_{kind}")
    Path(file).write_text(TEXTS[kind].format(**{**GOOD, **changes, "name": name}), encoding="utf-8")
    return file


def section_of(page, key):
    return page.partition(f'<section id="{key}">')[2].partition("</section>")[0]


@pytest.fixture(autouse=True)
def _forget(plugin):
    known = [(registry, dict(registry)) for registry in (FIGURES, TABLES)]
    yield
    for registry, items in known:
        registry.clear()
        registry.update(items)


@pytest.fixture
def run(estbench, here, tiny_file):
    tiny_file.write_text(tiny_file.read_text().replace("replicates = 3", "replicates = 0"), encoding="utf-8")
    return lambda *arguments: estbench("run", tiny_file, "--out", "r", *arguments)


@pytest.fixture
def few_figures(_forget):
    """Draw only the bounds, and what a test adds."""
    for name in [name for name in FIGURES if name != "draw_bounds"]:
        del FIGURES[name]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXTS)
def test_a_file_of_ones_own_adds_to_the_report(estbench, run, kind):
    path = write(kind)
    assert run("--plugin", path).code == 0
    made = Path("r/report") / f"{kind}s" / f"my_{kind}.csv"
    for command in (None, ["report", "r", "--plugin", path]):
        if command is not None:
            made.unlink()
            assert estbench(*command).err == ""
        page = Path("r/report/report.html").read_text(encoding="utf-8")
        tag = "h3" if kind == "figure" else "caption"
        assert f"<{tag}>Steps of runs</{tag}>" in section_of(page, SECTIONS[kind])
        assert "step" in made.read_text(encoding="utf-8").splitlines()[0]
        assert "Missing here" not in page


BROKEN = {
    "raises": ("both", {"begin": "raise ValueError('<b>no</b> data')"}, r"ValueError: <b>no</b> data \(mine.py, line"),
    "leaves": ("both", {"begin": "raise SystemExit(3)"}, "SystemExit: 3"),
    "asks for a key that is missing": ("both", {"begin": "{}['x']"}, "KeyError: 'x'"),
    "yields something else": ("figure", {"begin": "yield 3"}, "it yields int; yield what Canvas.finish returns"),
    "returns nothing": ("table", {"value": "None and "}, "it returns NoneType; return a Table"),
    "has a name that is taken": ("figure", {"name": "elbo_steps"}, "two figures are called 'elbo_steps'"),
    "has a field that rows lack": ("table", {"more": ", Field('x', 'x')"}, "has no attribute 'x'"),
    "gives a field no text": ("table", {"more": ", Field('seed', 'seed', write=lambda seed: 3.5)"}, "Error: "),
    "fails after the first": ("figure", {"end": "raise ValueError('late')"}, "ValueError: late"),
}
CASES = [
    pytest.param(kind, *BROKEN[case][1:], id=f"{kind} {case}")
    for case in BROKEN
    for kind in TEXTS
    if BROKEN[case][0] in {kind, "both"}
]


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(("kind", "changes", "reason"), CASES)
@pytest.mark.usefixtures("few_figures")
def test_one_that_fails_does_not_lose_the_report(run, kind, changes, reason):
    code, said, errors = run("--plugin", write(kind, **changes))
    assert code == 0
    assert "report: r/report/report.html" in said
    (line,) = errors.splitlines()
    function = f"draw_{changes.get('name', 'my_figure')}" if kind == "figure" else "my_table"
    assert line.startswith(f"Warning: the {kind} '{function}' could not be made: ")
    assert re.search(reason, line)
    page = Path("r/report/report.html").read_text(encoding="utf-8")
    section = section_of(page, SECTIONS[kind])
    assert f"Missing here: the {kind} &#39;{function}&#39; could not be made" in section
    assert "<b>no</b>" not in page
    assert Path("r/report/figures/elbo_steps.svg").is_file()


@pytest.mark.usefixtures("few_figures", "here")
def test_the_library_warns(tiny):
    import estbench
    from estbench.errors import EstbenchWarning
    from estbench.plugins import load_plugin
    from estbench.report import build

    estbench.run({**tiny, "probe": {"replicates": 0}}, out="r")
    load_plugin(write("table", begin="1 / 0"))
    with pytest.warns(EstbenchWarning, match="the table 'my_table' could not be made: ZeroDivisionError"):
        build("r", ["html"])


METRIC = """
from estbench.measure import register_metric


@register_metric("mine", label="mean pixel")
def mine(problem, estimator, x):
    return x.mean()
"""


@pytest.mark.usefixtures("quick_report")
def test_a_metric_of_a_plugin_that_is_not_measured_is_one_line(estbench, here, run):
    Path("mine.py").write_text(METRIC, encoding="utf-8")
    hint = "the metric 'mine' of the plugin is not measured; add it with --metric mine"
    code, said, errors = run("--plugin", "mine.py")
    assert (code, errors) == (0, "")
    assert said.count(hint) == 1
    code, said, errors = run("--plugin", "mine.py", "--metric", "mine", "--metric", "reconstruction_error")
    assert (code, errors) == (0, "")
    assert hint not in said
    assert "mine (metric)" in estbench("show", "mine", "--plugin", "mine.py").out
    assert "mean squared error" in estbench("show", "reconstruction_error").out.lower()
    assert "did you mean 'mine'" in run("--plugin", "mine.py", "--metric", "min").err
