"""Runs as processes of their own, and the plugin of cells that do harm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from faults import PLUGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# `estbench run`, whose report has tests of its own.
RUN = """
from estbench import cli, report
report.build = lambda path, **_options: path
cli.main()
"""


@pytest.fixture(autouse=True)
def _one_thread(one_thread) -> None:
    """Workers have one thread, too, so numbers can be equal to the last bit."""


@pytest.fixture(scope="session")
def faults_file(tmp_path_factory) -> Path:
    """One file for all tests: a cluster that outlives them would refuse a second one with the same names."""
    path: Path = tmp_path_factory.mktemp("plugin") / "faults_plugin.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


@pytest.fixture
def faults(faults_file, plugin) -> Path:
    """A plugin with one estimator for each fault, forgotten after the test."""
    return faults_file


@pytest.fixture
def gate(tmp_path, monkeypatch) -> Path:
    """The file that the estimator ``waits`` waits for."""
    path = tmp_path / "gate"
    monkeypatch.setenv("GATE", str(path))
    return path


@pytest.fixture
def command(tiny_file, environment, gate) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``estbench run`` of the tiny experiment in a process group of its own; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **settings: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, "run", str(tiny_file), *map(str, arguments)],
            env={**environment, "GATE": str(gate), **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
