"""Faults of the machine, at each errno and command: one line that says what could not be done, and nothing is lost."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tomllib

import pytest
from conftest import TINY

import estbench
from estbench.cli import _exit_code

ERRNOS = ["EIO", "ESTALE", "EMFILE", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "ENOLCK"]
COMMANDS = {
    "run": ["run", "tiny.toml", "--out", "a", "-e", "reparam", "-e", "stl", "--seeds", "3"],
    "report": ["report", "a", "--format", "csv"],
    "status": ["status", "a"],
    "merge": ["merge", "a", "b", "-o", "new"],
    "clean": ["clean", "a", "--yes"],
    "compare": ["compare", "a", "stl", "reparam"],
}
SLOW = pytest.mark.slow
# Calls of the system that go well before one does not.
FAULTS = [
    *((name, "read", 0) for name in COMMANDS),
    *((name, "look", 3) for name in COMMANDS),
    ("run", "write", 0),
    ("merge", "write", 0),
    *(pytest.param(name, "read", 2, marks=SLOW) for name in COMMANDS if name != "clean"),  # which reads less
    *(pytest.param(name, "write", at, marks=SLOW) for name, at in (("run", 1), ("merge", 1), ("report", 0))),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two folders with finished cells, and something to clean."""

    folder = tmp_path_factory.mktemp("machine") / "made"
    folder.mkdir()
    (folder / "tiny.toml").write_text(TINY)
    for name, seeds in (("a", [0, 1]), ("b", [1, 2])):
        experiment = {**tomllib.loads(TINY), "estimators": ["reparam", "stl"], "seeds": seeds}
        estbench.run(experiment, out=folder / name)
    left = folder / "a" / f".experiment.json.{'0' * 16}.tmp"
    left.write_text("{")
    os.utime(left, (0, 0))
    return folder


def finished(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.glob("[ab]/cells/[!.]*/*"))
        if path.name != "log.txt"
    }


def break_calls(monkeypatch, number, doing, at):
    """Let the calls by which a results folder is reached fail from the ``at``-th on, as the system would."""
    count = itertools.count()
    open_file, stat = os.open, os.stat

    def check(path):
        if next(count) >= at:
            raise OSError(number, os.strerror(number), path)

    def opening(path, flags, mode=0o777, *, dir_fd=None):
        writes = bool(flags & os.O_CREAT)
        if dir_fd is not None and not flags & os.O_DIRECTORY and writes == (doing == "write") and doing != "look":
            check(path)
        return open_file(path, flags, mode, dir_fd=dir_fd)

    def looking(path, *, dir_fd=None, follow_symlinks=True):
        if dir_fd is not None and doing == "look":
            check(path)
        return stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "stat", looking)


@pytest.mark.parametrize("name", ERRNOS)
@pytest.mark.parametrize(("command", "doing", "at"), FAULTS)
@pytest.mark.usefixtures("one_thread")
def test_a_fault_of_the_machine_is_one_line(made, tmp_path, monkeypatch, capfd, name, command, doing, at):
    work = tmp_path / "work"
    shutil.copytree(made, work)
    monkeypatch.chdir(work)
    before = finished(work)
    number = getattr(errno, name)
    with monkeypatch.context() as broken:
        break_calls(broken, number, doing, at)
        code = _exit_code(COMMANDS[command])
    errors = capfd.readouterr().err.strip().splitlines()
    # That a report cannot be written for want of a permission is the user's to mend, by --out.
    assert code == (2 if command == "report" and doing == "write" and name in {"EROFS", "EACCES"} else 1)
    assert f"cannot {'write' if doing == 'write' else 'read'}" in errors[-1]
    assert os.strerror(number) in errors[-1]
    assert len(errors) == 1
    after = finished(work)
    assert {path: after[path] for path in before} == before


@pytest.mark.usefixtures("one_thread")
def test_a_record_that_cannot_be_read_now_is_not_computed_again(made, tmp_path, monkeypatch):
    """It is whole, and the server of files may come back."""
    work = tmp_path / "work"
    shutil.copytree(made, work)
    monkeypatch.chdir(work)
    before = finished(work)
    open_file = os.open

    def opening(path, flags, mode=0o777, *, dir_fd=None):
        if str(path).endswith("gradients.parquet") and not flags & os.O_CREAT:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return open_file(path, flags, mode, dir_fd=dir_fd)

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", opening)
        assert _exit_code(COMMANDS["run"]) == 1
    assert finished(work) == before
