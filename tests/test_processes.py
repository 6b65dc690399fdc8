"""Cores that may be used, and processes that start without the caller's script."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from multiprocessing import spawn

import pytest

from estbench.processes import started_without_script, usable_cores


def test_cores_are_known_where_the_system_tells_no_affinity(monkeypatch):
    assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_only_processes_of_the_name_start_without_the_script(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "script.py", raising=False)
    before = spawn.get_preparation_data
    script = {"init_main_from_name", "init_main_from_path"}
    with started_without_script("mine"):
        assert script & spawn.get_preparation_data("another").keys()
        assert not script & spawn.get_preparation_data("mine").keys()
    assert spawn.get_preparation_data is before


SCRIPT = """
import multiprocessing, sys
from estbench.processes import started_without_script
print("imported", flush=True)
with started_without_script("mine"):
    process = multiprocessing.get_context("spawn").Process(target=print, args=("child",), name=sys.argv[1])
    process.start()
    process.join()
"""


@pytest.mark.parametrize(("name", "said"), [("mine", ["imported", "child"]), ("another", ["imported", "imported"])])
def test_a_script_without_a_guard(tmp_path, environment, name, said):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(path), name], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == said
    assert multiprocessing.active_children() == []
