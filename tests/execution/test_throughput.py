"""What is timed beside the training's own steps: further sizes of minibatches, and steps that torch compiles."""

from __future__ import annotations

from functools import partial

import pytest

import estbench
from estbench.errors import EstbenchError
from estbench.execution import Listener, as_experiment, throughput
from estbench.store import load
from estbench.training import take_steps
from estbench.training.compiled import CannotCompileError, CompiledSteps

pytestmark = pytest.mark.usefixtures("one_thread")


class Hears(Listener):
    def __init__(self):
        self.timings, self.notes = [], []

    def timing(self, labels):
        self.timings.append(labels)

    def noted(self, remark):
        self.notes.append(remark)


@pytest.fixture
def run(tiny, tmp_path, monkeypatch):
    """Run with torch's own kernels in place of a C++ compiler's."""
    monkeypatch.setattr(throughput, "CompiledSteps", partial(CompiledSteps, backend="aot_eager"))

    def run(**protocol):
        heard = Hears()
        experiment = {**tiny, "estimators": ["stl"], "throughput": {"rounds": 2, "steps": 2, **protocol}}
        return estbench.run(experiment, out=tmp_path, listener=heard), heard

    return run


class Uncompiled:
    """Stands for compiled steps where a test is of which are timed, and not of their numbers."""

    seconds, breaks = 0.1, ()

    def __init__(self, state):
        self.take = partial(take_steps, state)


def timed(results):
    frame = results.throughput
    return sorted(frame[["estimator", "batch_size", "mode"]].drop_duplicates().itertuples(index=False, name=None))


def test_each_size_and_mode_is_timed_once(run, tiny, monkeypatch):
    monkeypatch.setattr(throughput, "CompiledSteps", Uncompiled)
    own = tiny["training"]["batch_size"]
    results, heard = run(batch_sizes=[own, 2 * own])
    assert timed(results) == [(label, size, "eager") for label in ("reparam", "stl") for size in (own, 2 * own)]
    assert len(heard.timings) == 2
    results, heard = run(batch_sizes=[2 * own, 3 * own], modes=["eager", "compiled"])
    assert len(timed(results)) == 2 * 3 * 2
    new = ["reparam (compiled)", "stl (compiled)"]
    assert heard.timings == [new, new, ["reparam", "reparam (compiled)", "stl", "stl (compiled)"]]
    results, heard = run(batch_sizes=[2 * own, 3 * own], modes=["eager", "compiled"])
    assert heard.timings == []


def test_a_size_beyond_the_training_examples_is_that_of_all_of_them(run):
    results, _ = run(batch_sizes=[10**6])
    examples = max(results.throughput["batch_size"])
    assert examples < 10**6
    assert len(timed(results)) == 4


def test_rows_of_compiled_steps_say_what_compiling_took(run):
    results, _ = run(modes=["compiled", "eager"])
    for mode, rows in results.throughput.groupby("mode"):
        assert rows["compile_seconds"].notna().all() == (mode == "compiled")
        assert set(rows["graph_breaks"]) == {""}
        assert rows["seconds"].gt(0).all()
        assert set(rows["reference"]) == {"reparam"}
    compiled = results.throughput[results.throughput["mode"] == "compiled"]
    assert compiled["peak_memory_bytes"].isna().all()  # on a CPU, the compiler's memory is in it


def test_the_numbers_of_training_do_not_depend_on_what_is_timed(run, tiny, tmp_path):
    timed_too, _ = run(modes=["compiled", "eager"], batch_sizes=[4])
    alone = estbench.run({**tiny, "estimators": ["stl"], "throughput": {"rounds": 0}}, out=tmp_path / "alone")
    assert set(timed_too.cells["key"]) == set(alone.cells["key"])
    for name in ("curves", "gradients"):
        there, here = (
            getattr(results, name).drop(columns="seconds", errors="ignore") for results in (timed_too, alone)
        )
        assert there.equals(here)


def test_what_torch_cannot_compile_is_noted_and_not_tried_again(run, monkeypatch, tmp_path):
    class Fails(CompiledSteps):
        def __init__(self, state):
            if state.cell.estimator.label == "stl":
                raise CannotCompileError("no double backward")
            super().__init__(state, "aot_eager")

    monkeypatch.setattr(throughput, "CompiledSteps", Fails)
    results, heard = run(modes=["eager", "compiled"])
    (note,) = heard.notes
    assert "stl (compiled)" in note
    assert "torch cannot compile it: no double backward" in note
    assert len(timed(results)) == 3
    kept = load(tmp_path).not_timed
    assert kept[["estimator", "mode", "graph_breaks"]].to_numpy().tolist() == [
        ["stl", "compiled", "not compiled: no double backward"]
    ]
    _, heard = run(modes=["eager", "compiled"])
    assert heard.timings == []


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ({"batch_sizes": [100, 100]}, "given twice: 100"),
        ({"batch_sizes": [0]}, "batch_sizes"),
        ({"modes": ["eager", "eager"]}, "given twice: eager"),
        ({"modes": []}, "at least one mode"),
        ({"modes": ["jit"]}, "modes"),
    ],
)
def test_what_cannot_be_timed_is_refused(tiny, protocol, message):
    with pytest.raises(EstbenchError, match=message):
        as_experiment({**tiny, "throughput": protocol})
