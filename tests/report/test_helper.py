"""A process that helps to draw: the same report, whatever happens to it."""

from __future__ import annotations

import dataclasses

import pytest
from records import drawn_alone

from estbench.report import build, helper
from estbench.report.helper import Helper, drawing_helper

DRAWN = ("draw_final_bounds", "draw_noise_shares", "draw_throughput", "draw_pareto")


@pytest.fixture(scope="module")
def drawing():
    """A helper that is ready."""
    made = Helper()
    made.wait()
    yield made
    made.close()


@pytest.fixture(scope="module")
def alone(results, tmp_path_factory):
    """The files of the report that one process draws."""
    return written(results, tmp_path_factory.mktemp("alone"))


def written(results, out, drawing=None):
    with drawn_alone(*DRAWN):
        build(results, ["html", "csv", "svg", "png"], out=out, helper=drawing)
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


@pytest.fixture
def asked(drawing, monkeypatch):
    """The names that the helper is asked for."""
    names, ask = [], drawing.ask
    monkeypatch.setattr(drawing, "ask", lambda name, kinds: names.append(name) or ask(name, kinds))
    return names


def test_a_report_of_two_processes_has_the_same_bytes(results, drawing, asked, alone, tmp_path):
    assert written(results, tmp_path, drawing) == alone
    assert "draw_pareto" in asked, "it begins at the end of the page"
    assert "draw_final_bounds" not in asked


@pytest.mark.slow
def test_a_report_can_be_built_again_with_the_same_helper(results, drawing, asked, alone, tmp_path):
    for name in ("first", "second"):
        assert written(results, tmp_path / name, drawing) == alone
    assert asked.count("draw_pareto") == 2


@pytest.mark.slow
def test_what_the_helper_cannot_draw_is_drawn_here(results, drawing, alone, tmp_path, monkeypatch):
    ask = drawing.ask
    monkeypatch.setattr(drawing, "ask", lambda _name, kinds: ask("draw_nothing", kinds))
    assert written(results, tmp_path, drawing) == alone


def test_results_that_cannot_be_sent_are_drawn_here(results, drawing, asked, alone, tmp_path):
    odd = dataclasses.replace(results, plan={**results.plan, "a function": lambda: None})
    assert written(odd, tmp_path, drawing) == alone
    assert asked == []


def test_many_cells_are_drawn_here(results, drawing, asked, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(helper, "MOST_CELLS", 3)
    assert written(results, tmp_path, drawing) == alone
    assert asked == []


@pytest.mark.parametrize("when", ["asked", pytest.param("before", marks=pytest.mark.slow)])
def test_a_helper_that_is_killed_is_not_missed(results, alone, tmp_path, monkeypatch, when):
    drawing = Helper()
    if when == "before":
        drawing._process.kill()
        drawing._process.join()
    else:
        ask = drawing.ask
        monkeypatch.setattr(drawing, "ask", lambda name, kinds: drawing._process.kill() or ask(name, kinds))
    assert written(results, tmp_path, drawing) == alone
    drawing.close()


def test_a_helper_ends_with_its_command(monkeypatch):
    monkeypatch.setattr(helper, "usable_cores", lambda: 2)
    with drawing_helper() as made:
        process = made._process
        assert process.is_alive()
    assert process.exitcode is not None


@pytest.mark.parametrize(("wanted", "cores"), [(False, 2), (True, 1)])
def test_there_is_no_helper_without_a_use_or_a_core(monkeypatch, wanted, cores):
    monkeypatch.setattr(helper, "usable_cores", lambda: cores)
    with drawing_helper(wanted=wanted) as made:
        assert made is None
