"""A cell fails alone, whatever a plugin raises, and leaves no trace in the next one, whatever it does."""

from __future__ import annotations

import json
import signal
import tomllib

import pytest
from conftest import TINY
from faults import bits, nothing_left, statuses

import estbench
from estbench import EstbenchError, EstbenchWarning
from estbench.execution import Listener
from estbench.failures import failure_of
from estbench.training import Interrupts

HEAD = """
import asyncio
import os
import signal
import threading
import time

import numpy as np
import torch
from estbench.estimators import Estimator, register

class Odd(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        raise KeyboardInterrupt
    __repr__ = __str__

def spin():
    while True:
        torch.rand(3)
        time.sleep(0.0005)

def endless():
    return endless()
"""
ESTIMATOR = """
@register("{name}")
class {cls}(Estimator):
    summary = "reparam, and worse"
    supports = {{"normal"}}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1
    calls = 0
    {other}

    def forward(self, objective):
        type(self).calls += 1
        if self.training and type(self).calls > 15:
            {fault}
        return objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()
"""
RAISED = {
    "exit": "raise SystemExit(0)",
    "exit-text": "raise SystemExit('bye')",
    "generator-exit": "raise GeneratorExit",
    "keyboard": "raise KeyboardInterrupt",
    "odd": "raise Odd('odd')",
    "mute": "raise Mute",
    "surrogate": "raise ValueError('bad \\ud800 \\x00 \\x1b[2J')",
    "recursion": "endless()",
    "memory": "raise MemoryError",
    "long": "raise ValueError('x' * 10_000_000)",
    "stop": "raise StopIteration",
    "cancelled": "raise asyncio.CancelledError",
    "blocking": "raise BlockingIOError('mine')",
    "group": "raise BaseExceptionGroup('many', [KeyboardInterrupt()])",
}
ELSEWHERE = {
    "in-init": "def __init__(self, options=None): super().__init__(options); raise SystemExit(0)",
    "in-prepare": "def prepare(self, objective): raise KeyboardInterrupt",
    "in-facts": "def facts(self): raise GeneratorExit",
    "odd-facts": "def facts(self): return {'unbiased': object()}",
}
LEAVES = {
    "torch": "torch.set_default_dtype(torch.float64); torch.set_float32_matmul_precision('medium')",
    "grad": "torch.set_grad_enabled(False)",
    "process": "os.chdir('/'); os.environ['X'] = '1'; np.random.seed(0); torch.manual_seed(0); "
    "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "patch": "torch.Tensor.mean = torch.Tensor.sum",
}


def written(name, fault, other=""):
    return ESTIMATOR.format(name=name, cls=name.title().replace("-", ""), fault=fault, other=other)


@pytest.fixture
def evil(plugin):
    return plugin(
        "evil.py",
        HEAD
        + "".join(written(name, fault) for name, fault in {**RAISED, **LEAVES}.items())
        + "".join(written(name, "pass", other) for name, other in ELSEWHERE.items())
        + written("thread", "self.calls == 16 and threading.Thread(target=spin, daemon=True).start()")
        + written("stays", "self.calls == 16 and threading.Thread(target=spin).start()"),
    )


class Notes(Listener):
    def __init__(self):
        self.notes = []

    def noted(self, remark):
        self.notes.append(remark)


def records(path):
    found = [json.loads(file.read_text()) for file in path.glob("cells/*/cell.json")]
    return {record["cell"]["estimator"]["label"]: record for record in found}


GOOD = ["reparam", "stl"]


def neighbours(path):
    return {name: content for name, content in bits(path).items() if name.startswith(("reparam", "stl"))}


@pytest.mark.slow
def test_whatever_is_raised_is_the_failure_of_its_cell(tiny, tmp_path, evil):
    names = [*RAISED, *ELSEWHERE]
    handler = signal.getsignal(signal.SIGINT)
    results = estbench.run({**tiny, "estimators": [*names, *GOOD]}, out=tmp_path / "out", plugins=[evil])
    assert statuses(tmp_path / "out") == {f"{name}-0": "failed" for name in names} | {
        f"{name}-0": "done" for name in GOOD
    }
    assert signal.getsignal(signal.SIGINT) is handler
    estbench.run({**tiny, "estimators": GOOD}, out=tmp_path / "here", plugins=[evil])
    assert neighbours(tmp_path / "out") == bits(tmp_path / "here")
    assert nothing_left(tmp_path / "out")
    for name, record in records(tmp_path / "out").items():
        if name in RAISED:
            assert record["error"]["place"].startswith("evil.py, line ")
            assert len(record["stop_reason"]) < 3_000
            assert "in forward" in record["error"]["traceback"] or name == "mute"
    assert set(results.cells["status"]) == {"failed", "done"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The bits of a cell that has had no neighbour."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    estbench.run({**tomllib.loads(TINY), "estimators": ["reparam"]}, out=out)
    return bits(out)


@pytest.mark.parametrize("name", LEAVES)
def test_a_cell_leaves_no_trace_in_the_next_and_is_named(tiny, tmp_path, undisturbed, evil, name):
    notes = Notes()
    estbench.run({**tiny, "estimators": [name, "reparam"]}, out=tmp_path / "out", plugins=[evil], listener=notes)
    assert neighbours(tmp_path / "out") == undisturbed
    remarks = records(tmp_path / "out")[name]["remarks"]
    assert remarks
    assert all(remark["measurement"] == "isolation" for remark in remarks)
    assert len(notes.notes) >= len(remarks)
    assert not records(tmp_path / "out")["reparam"].get("remarks")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["thread", "stays"])
def test_a_thread_that_draws_random_numbers_changes_no_other_cell_and_no_exit_code(tmp_path, evil, command, name):
    """By the command line, in a process of its own, for the thread lives as long as that does."""
    for names, out in (([name, *GOOD], "out"), (GOOD, "here")):
        chosen = [part for each in names for part in ("-e", each)]
        process = command(*chosen, "--plugin", evil, "--out", tmp_path / out)
        assert process.wait(120) == 0, process.stderr.read()
    assert neighbours(tmp_path / "out") == bits(tmp_path / "here")
    assert "thread" in str(records(tmp_path / "out")[name]["remarks"])
    assert nothing_left(tmp_path / "out")


def test_throughput_that_fails_is_told_and_leaves_that_of_others(tiny, tmp_path, plugin):
    fault = "type(self).trained = getattr(type(self), 'trained', 0) + 1; type(self).trained > 30 and endless()"
    late = plugin("late.py", HEAD + written("late", fault))
    tiny["throughput"] = {"rounds": 1, "steps": 40}
    notes = Notes()
    results = estbench.run({**tiny, "estimators": ["late", "stl"]}, out=tmp_path, plugins=[late], listener=notes)
    assert set(results.cells["status"]) == {"done"}
    assert set(results.throughput["estimator"]) == {"reparam", "stl"}
    (note,) = [note for note in notes.notes if "cannot be timed" in note]
    assert "RecursionError" in note


def test_failed_cells_are_warned_of_where_nobody_listens(tiny, tmp_path, evil):
    with pytest.warns(
        EstbenchWarning, match=r"(?s)1 of 2 runs.*surrogate-vae.*ValueError.*evil\.py, line \d+"
    ) as caught:
        estbench.run({**tiny, "estimators": ["surrogate", "stl"]}, out=tmp_path, plugins=[evil])
    assert caught[0].filename == __file__


def test_what_is_defined_in_a_notebook_is_refused_for_workers(tiny, tmp_path, evil):
    pytest.importorskip("distributed")
    from estbench import estimators

    estbench.run({**tiny, "estimators": ["torch"], "training": {"steps": 1, "batch_size": 4}}, tmp_path, plugins=[evil])
    estimators.ESTIMATORS.get("torch").__module__ = "__main__"
    with pytest.raises(EstbenchError, match=r"'torch' is defined in __main__.*plugins="):
        estbench.run({**tiny, "estimators": ["torch"]}, out=tmp_path / "out", jobs=2)
    assert not (tmp_path / "out").exists()


def test_a_plugin_that_cannot_be_loaded_is_a_mistake_of_the_user(tiny, tmp_path, plugin):
    for text in ("raise SystemExit(0)", "raise GeneratorExit", "1 / 0"):
        with pytest.raises(EstbenchError, match=r"bad\.py"):
            estbench.run(tiny, out=tmp_path / "out", plugins=[plugin("bad.py", text)])


def test_what_a_plugin_changes_as_it_is_imported_is_told_and_put_back(tiny, tmp_path, plugin):
    import torch

    notes = Notes()
    doubles = plugin("doubles.py", "import torch\ntorch.set_default_dtype(torch.float64)")
    estbench.run(tiny, out=tmp_path / "out", plugins=[doubles], listener=notes)
    estbench.run(tiny, out=tmp_path / "here")
    assert torch.get_default_dtype() is torch.float32
    assert bits(tmp_path / "out") == bits(tmp_path / "here")
    assert "doubles.py" in notes.notes[0]


def test_a_handler_that_was_not_installed_from_python_stays(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Interrupts() as interrupts:
            assert not interrupts()
        assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_failure_is_text_whatever_it_is_asked():
    class Nameless(type):
        def __getattribute__(cls, name):
            raise SystemExit(0)

    class UnshownError(Exception, metaclass=Nameless):
        __str__ = None

    for error in (UnshownError(), ValueError(b"\xff".decode("utf-8", "surrogateescape"))):
        failure = failure_of(error)
        assert json.dumps(failure.as_dict()).encode()
        assert failure.reason.encode()
