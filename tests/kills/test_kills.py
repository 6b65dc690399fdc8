"""Commands that are killed at any moment: the same command completes, with the same results, and nothing is left.

Each kill has a seed of its own, which a failure names. Commands are forked from this process, which has imported all of
estbench and has computed nothing, so that a kill costs no start of Python; workers are processes of their own.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import counting
import pytest
from conftest import TINY
from faults import LONG, bits, wait_for

import estbench
from estbench.cli import _exit_code
from estbench.guarded import TEMPORARY

psutil = pytest.importorskip("psutil")
pytest.importorskip("distributed")
pytestmark = [pytest.mark.kill, pytest.mark.timeout(900)]

# A tenth of a second more than the undisturbed command, so that some kills come too late.
LATE = 0.1
OLD = 3600.0
# Kills of each command.
KILLS = {"run": 12, "run --jobs 2": 3, "report": 7, "merge": 7, "clean": 7, "check": 4, "reproduce": 6}


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """Everything is imported before the first fork; what one command needs alone would be imported at each."""
    for module in pkgutil.walk_packages(estbench.__path__, "estbench."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


class Command:
    """A command in a session of its own."""

    def __init__(self, arguments: list[str], folder: Path, cores: int = 1) -> None:
        self.output = folder.parent / "output.txt"
        self.session = os.fork()
        if self.session == 0:
            code = 70
            try:
                os.setsid()
                os.chdir(folder)
                number = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(number, 1)
                os.dup2(number, 2)
                quick(arguments, cores)
                code = _exit_code(arguments)
            finally:
                os._exit(code)
        self.code = None

    def members(self) -> list[int]:
        """Processes of the session, this first one among them."""
        found = []
        for number in psutil.pids():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(number) == self.session and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
                    found.append(number)
        return found

    def wait(self) -> int:
        """The exit code, once no process of the session is left."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.session, 0)[1])
        wait_for(lambda: not self.members(), LONG)
        return self.code


def quick(arguments: list[str], cores: int) -> None:
    """In a child: one thread, as workers have, and certificates without what is sampled at length."""
    import sys

    import torch

    from estbench.certify import certificate
    from estbench.reproduce import card_result

    torch.set_num_threads(1)
    certificate.usable_cores = lambda: cores
    if arguments[0] == "run":  # whose report has kills of its own
        estbench.report.build = lambda path, **_options: path
    certificate.certify_estimator = partial(certificate.certify_estimator, quick=True)
    card_result.time = SimpleNamespace(perf_counter=float)  # every card takes no time
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)


def entries(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def certificates(folder: Path) -> dict[str, object]:
    return {path.name: {**json.loads(path.read_text()), "seconds": 0} for path in (folder / "out").glob("*.json")}


def reproductions(folder: Path) -> dict[str, object]:
    found = {
        name: content
        for name, content in entries(folder / "out").items()
        if not name.endswith((".json", ".html", ".pdf"))
    }
    record = json.loads((folder / "out" / "cards" / "card.json").read_text())
    return {**found, "quantities": record["quantities"] if "quantities" in record else record["verdict"]}


def report(folder: Path) -> dict[str, bytes]:
    return entries(folder / "a" / "report" / "tables")


def kept(folder: Path) -> dict[str, object]:
    return entries(folder / "a")


# The arguments of each command, and what it makes of a folder.
COMMANDS = {
    "run": (["run", "tiny.toml", "--out", "out"], lambda folder: bits(folder / "out")),
    "run --jobs 2": (
        ["run", "tiny.toml", "--out", "out", "--jobs", "2", "--threads", "1"],
        lambda folder: bits(folder / "out"),
    ),
    "report": (["report", "a", "--format", "csv,md"], report),
    "merge": (["merge", "a", "b", "-o", "out"], lambda folder: bits(folder / "out")),
    "clean": (["clean", "a", "--yes"], kept),
    "check": (["check", "detached", "--out", "out"], certificates),
    "reproduce": (["reproduce", "card.toml", "--out", "out"], reproductions),
}


def make_old(folder: Path) -> None:
    """As if an hour had gone by: until then a file may be in use."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - OLD,) * 2)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """What every command begins with: two folders of finished cells, an experiment, a card, and things left over."""
    folder = tmp_path_factory.mktemp("start") / "start"
    folder.mkdir()
    counting.write(folder, "card")
    (folder / "tiny.toml").write_text(TINY.replace("seeds = [0]", "seeds = [0, 1, 2]"))
    for name, seeds in (("a", "0,1"), ("b", "1,2")):
        assert Command(["run", "tiny.toml", "--out", name, "--seeds", seeds], folder).wait() == 0
    cell = next((folder / "a" / "cells").glob("reparam-*"))
    shutil.copytree(cell, folder / "a" / "cells" / f".{cell.name}.partial")
    shutil.copytree(cell, folder / "a" / "cells" / f".{cell.name}.replaced")
    (folder / "a" / "cells" / f".{cell.name}.attempts").write_text("1\n")
    (folder / "a" / f".experiment.json.{'0' * 16}.tmp").write_text("{")
    make_old(folder)
    return folder


@pytest.mark.parametrize("name", KILLS)
def test_a_command_that_is_killed_completes_when_it_is_given_again(start, tmp_path, name):
    arguments, result = COMMANDS[name]
    whole = tmp_path / "whole"
    shutil.copytree(start, whole)
    began = time.monotonic()
    command = Command(arguments, whole)
    assert command.wait() == 0, command.output.read_text()
    seconds = time.monotonic() - began
    expected, files = result(whole), {*entries(whole)}
    for number in range(KILLS[name]):
        seed = f"{name}-{number}"
        rng = random.Random(seed)
        folder = tmp_path / str(number) / "work"
        shutil.copytree(start, folder)
        command = Command(arguments, folder)
        time.sleep(rng.uniform(0, seconds + LATE))
        # Any process of it: the command itself more often than one of its workers.
        victim = rng.choice([command.session, command.session, *command.members()])
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        killed = command.wait()
        make_old(folder)
        command = Command(arguments, folder)
        code, said = command.wait(), f"{seed}, killed: {killed}; {command.output.read_text()}"
        if name == "merge" and code == 2:  # the kill came after the new folder was in place
            assert "exists already" in said, said
        else:
            assert code == 0, said
        assert result(folder) == expected, said
        left = {path for path in entries(folder) if any(TEMPORARY.fullmatch(part) for part in Path(path).parts)}
        assert left <= files, said
        assert {path for path in entries(folder) if "/." in path} <= files, said
        shutil.rmtree(folder.parent)


def test_processes_that_share_certificates_end_with_their_parent(tmp_path):
    command = Command(["check", "rloo", "--out", "out"], tmp_path, cores=2)
    wait_for(lambda: len(command.members()) > 2, LONG)
    os.kill(command.session, signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
