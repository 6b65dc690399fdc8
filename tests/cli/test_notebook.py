"""Progress of a run that Python starts: shown in a notebook, silent in a script unless it is asked for."""

from __future__ import annotations

import builtins
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

import estbench
from estbench import EstbenchError
from estbench.cli.console import console
from estbench.execution import Listener


@pytest.fixture(autouse=True)
def fresh_console():
    """The console looks once for where it is."""
    console.cache_clear()
    yield
    console.cache_clear()


class Handle:
    """The display of IPython that can be replaced."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, html) -> None:
        self.shown.append(html.data)


@pytest.fixture
def notebook(monkeypatch):
    """What stands for a notebook: its shell, and the two names of IPython that are used."""
    handle = Handle()
    display = ModuleType("IPython.display")
    display.HTML = lambda data: SimpleNamespace(data=data)
    display.display = lambda *_, display_id=False, **__: handle if display_id else None
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    return handle


def bar(html):
    """The length of a bar and where it is."""
    most, now = re.search(r'<progress max="(\d+)" value="(\d+)">', html).groups()
    return int(most), int(now)


def test_a_notebook_shows_a_bar_that_fills(notebook, tiny, tmp_path):
    tiny["estimators"] = ["reparam", "stl"]
    estbench.run(tiny, out=tmp_path / "r")
    assert bar(notebook.shown[0]) == (60, 0)
    assert bar(notebook.shown[-1]) == (60, 60)
    assert "2 of 2 runs" in notebook.shown[-1]


def test_a_notebook_can_be_silent(notebook, tiny, tmp_path, capsys):
    estbench.run(tiny, out=tmp_path / "r", progress=False)
    assert notebook.shown == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("progress", [None, False])
def test_a_script_prints_nothing(tiny, tmp_path, capsys, progress):
    estbench.run(tiny, out=tmp_path / "r", progress=progress)
    assert capsys.readouterr().out == ""


def test_a_script_shows_progress_if_asked(tiny, tmp_path, capsys):
    estbench.run(tiny, out=tmp_path / "r", progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert "1 run" in lines[0]
    assert any(line.startswith("done [1/1] reparam") for line in lines)


def test_a_listener_takes_the_place_of_progress(notebook, tiny, tmp_path):
    told = []

    class Mine(Listener):
        def cell_ended(self, cell, outcome, folder):
            told.append(cell.seed)

    estbench.run(tiny, out=tmp_path / "r", listener=Mine(), progress=True)
    assert told == [0]
    assert notebook.shown == []


def test_without_the_command_line_there_is_no_progress(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("estbench.execution.config._show_with", None)
    with pytest.raises(EstbenchError, match=r"estbench\.run"):
        estbench.run(tiny, out=tmp_path / "r", progress=True)
    assert not (tmp_path / "r").exists()
    estbench.run(tiny, out=tmp_path / "r")
