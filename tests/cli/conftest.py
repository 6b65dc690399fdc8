"""A user's terminal: commands go in, an exit code and two streams come out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from estbench.cli import _exit_code
from estbench.store import load
from estbench.store.homes import report_folder

if TYPE_CHECKING:
    from collections.abc import Callable


class Answer(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def tree(path: Path) -> dict[str, bytes | None]:
    """All that is under a folder: files with their content, and folders."""
    return {
        str(item.relative_to(path)): item.read_bytes() if item.is_file() else None for item in sorted(path.rglob("*"))
    }


@pytest.fixture(autouse=True)
def _one_thread(one_thread) -> None:
    """A cell this small is slower on two."""


@pytest.fixture
def estbench(capfd, monkeypatch, tmp_path) -> Callable[..., Answer]:
    """Run a command as ``estbench ARGUMENTS...`` would, in this process."""
    from estbench.cli.console import console

    console.cache_clear()
    monkeypatch.delenv("ESTBENCH_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where data is looked for, then

    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        try:
            code = _exit_code([str(argument) for argument in arguments])
        except SystemExit as leaving:  # rich-click leaves by itself after the help that nobody asked for
            code = int(leaving.code or 0)
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture
def quick_report(monkeypatch) -> None:
    """Do not draw: the report has tests of its own, and takes a second."""

    def build(source, *_, **__) -> Path:
        path = load(source).path if isinstance(source, (str, Path)) else source.path
        page = Path(report_folder(Path(path))) / "report.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("drawn")
        return page

    monkeypatch.setattr("estbench.report.build", build)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def refused(estbench, here) -> Callable[..., str]:
    """Run a command that is misuse: one line on standard error, exit code 2, nothing written or lost."""

    def run(*arguments: object) -> str:
        before = tree(here)
        code, out, err = estbench(*arguments)
        assert out == ""
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert "Traceback" not in err
        assert code == 2
        assert tree(here) == before
        return err

    return run
