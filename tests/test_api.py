"""The Python face, as the design promises it."""

from __future__ import annotations

import pytest
import torch

import estbench

pytestmark = pytest.mark.usefixtures("one_thread")


def test_run_and_load_give_frames(tiny, tmp_path):
    ran = estbench.run({**tiny, "estimators": ["reparam", "rloo[num_samples=3]"]}, out=tmp_path / "x")
    loaded = estbench.load(str(tmp_path / "x"))
    for results in (ran, loaded):
        assert results.cells["estimator"].tolist() == ["reparam", "rloo[num_samples=3]"]
        assert set(results.cells["status"]) == {"done"}
        assert {"elbo", "iwae"} <= set(results.curves["metric"])
        assert set(results.curves["split"]) == {"train", "validation", "test"}
        assert {"variance", "mean_norm2", "snr"} <= set(results.gradients["statistic"])
        assert set(results.gradients["space"]) == {"params", "weights"}
        assert set(results.gradients["group"]) == {"encoder", "decoder", "loc", "log_scale"}
        assert len(results.throughput) == 0


def test_a_run_of_plain_data_goes_to_a_folder_of_its_name(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(estbench.run({**tiny, "name": "mine"}).path) == "results/mine"


def test_estimators_are_created_named_and_described():
    estimator = estbench.estimators.create("rloo[num_samples=4]")
    assert (estimator.name, estimator.options.num_samples, estimator.evaluations) == ("rloo", 4, 4)
    assert {"reparam", "reinforce", "rloo"} <= set(estbench.estimators.names())
    for name in estbench.estimators.names():
        facts = estbench.estimators.describe(name)
        assert facts["name"] == name
        assert facts["summary"]
        assert facts["documentation"]


def test_problems_are_created_named_and_described():
    problem = estbench.problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    assert problem.options.latent_size == 2
    assert "vae" in estbench.problems.names()
    assert estbench.problems.describe("vae")["options"]["latent_size"] == 20
    assert {"digits", "mnist5k"} <= set(estbench.datasets.names())


def test_a_probe_is_a_table():
    problem = estbench.problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    estimator = estbench.estimators.create("reinforce")
    batch = torch.from_numpy(problem.data.train[:5]).round()
    moments = estbench.measure.probe(problem, estimator, batch, replicates=5, seed=0)
    assert list(moments.table.columns) == ["space", "group", "statistic", "value", "low", "high", "replicates"]
    assert moments.value("weights", "encoder", "variance") > 0
    with pytest.raises(estbench.EstbenchError, match="at least 3 replicates"):
        estbench.measure.probe(problem, estimator, batch, replicates=2)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        _ = estbench.frobnicate


def test_all_names_are_there():
    assert all(getattr(estbench, name) is not None for name in estbench.__all__)
