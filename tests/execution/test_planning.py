"""What is decided before a cell runs: the order, the GPU of a worker, and what is refused."""

from __future__ import annotations

import sys

import pytest

import estbench
from estbench import EstbenchError
from estbench.execution.planning import as_experiment, longest_first, plan_of, whole_batches


def test_longest_cells_go_first_and_equal_ones_in_the_order_of_the_plan(tiny):
    wide = "vae[dataset=digits,hidden=[64],latent_size=2]"
    tiny |= {"estimators": ["reparam", "rloo[num_samples=8]", "stl"], "seeds": 2}
    tiny["problems"] = [*tiny["problems"], wide]
    ordered = longest_first(plan_of(as_experiment(tiny)))
    names = [(cell.estimator.label, "64" in cell.problem.label, cell.seed) for cell in ordered]
    assert names[:4] == [
        ("rloo[num_samples=8]", True, 0),
        ("rloo[num_samples=8]", True, 1),
        ("reparam", True, 0),
        ("stl", True, 0),
    ]
    assert {cell.key for cell in ordered} == {cell.key for cell in plan_of(as_experiment(tiny))}


def test_a_cell_that_cannot_be_built_is_ordered_all_the_same(tiny, plugin):
    path = plugin(
        "broken.py",
        """
        from estbench.estimators import register
        from estbench.estimators.continuous.pathwise import Reparam

        @register("broken")
        class Broken(Reparam):
            def prepare(self, objective):
                raise ValueError("on purpose")
        """,
    )
    estbench.plugins.load_plugin(path)
    cells = longest_first(plan_of(as_experiment({**tiny, "estimators": ["broken", "reparam"]})))
    assert [cell.estimator.label for cell in cells] == ["reparam", "broken"]


@pytest.mark.parametrize(
    ("count", "visible", "expected"),
    [
        (0, None, [{}, {}, {}]),
        (1, None, [{}, {}, {}]),
        (2, None, ["0", "1", "0"]),
        (2, "4,7", ["4", "7", "4"]),
    ],
)
def test_each_worker_has_one_gpu_where_there_are_several(monkeypatch, count, visible, expected):
    engines = pytest.importorskip("estbench.execution.engines")
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [engines._one_gpu(index, "cuda") for index in range(3)]
    assert [environment.get("CUDA_VISIBLE_DEVICES", {}) for environment in found] == expected


@pytest.mark.parametrize("option", [{"jobs": 2}, {"cluster": "x"}])
def test_without_the_extra_the_remedy_is_named_and_nothing_is_written(tiny, tmp_path, monkeypatch, option):
    for name in [name for name in sys.modules if name.startswith("estbench.execution.engines")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("estbench.execution.engines", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(EstbenchError, match=r"--jobs, --cluster and --slurm need .*: pip install 'estbench\[dask\]'"):
        estbench.run(tiny, out=tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


def test_a_minibatch_that_is_all_of_the_data_is_named(tiny):
    tiny["training"]["batch_size"] = 100_000
    plan = plan_of(as_experiment(tiny))
    examples = {plan.cells[0].problem.label: 1397}
    (line,) = whole_batches(plan, examples)
    assert "all 1,397 training examples" in line
    assert "100,000" in line
    assert whole_batches(plan, dict.fromkeys(examples, 100000)) == []
