"""Lazy modules get their weights with the problem: the same ones for every estimator of a seed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from estbench import problems
from estbench.errors import EstbenchError
from estbench.experiment import make_plan
from estbench.experiment.spec import experiment_from
from estbench.plugins import load_plugin
from estbench.store import ResultsFolder, Status
from estbench.training import run_cell

LAZY = """
from torch import nn

from estbench.problems.problem import register
from estbench.problems.vae import VAE


@register("lazy")
class Lazy(VAE):
    def __init__(self, options=None):
        super().__init__(options)
        self.encoder = nn.Sequential(
            nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(self.family.outputs)
        )
        self.decoder = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(self.data.size))


@register("unused")
class Unused(VAE):
    def __init__(self, options=None):
        super().__init__(options)
        self.extra = nn.LazyLinear(8)


@register("unbuildable")
class Unbuildable(VAE):
    def __init__(self, options=None):
        super().__init__(options)
        self.encoder = nn.Sequential(nn.LazyLinear(8), nn.Linear(9, self.family.outputs))
"""


@pytest.fixture(autouse=True)
def _plugin(plugin):
    load_plugin(plugin("lazy.py", LAZY))


def test_lazy_modules_are_built_with_the_problem_and_have_seen_nothing():
    built = []
    for _ in range(2):
        torch.manual_seed(3)
        built.append(problems.create("lazy[dataset=digits,latent_size=2]"))
    first, second = (problem.state_dict() for problem in built)
    assert first["encoder.0.weight"].shape == (8, 64)
    assert first["decoder.2.weight"].shape == (64, 8)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert type(built[0].encoder[1]) is nn.BatchNorm1d
    assert torch.equal(first["encoder.1.running_mean"], torch.zeros(8))
    assert first["encoder.1.num_batches_tracked"] == 0
    assert all(module.training for module in built[0].modules())
    torch.manual_seed(4)
    other = problems.create("lazy[dataset=digits,latent_size=2]").state_dict()
    assert not torch.equal(first["decoder.2.weight"], other["decoder.2.weight"])


def test_estimators_of_one_seed_start_from_the_same_bits(tiny, tmp_path):
    from estbench import estimators

    names = ["reparam", "reinforce[baseline=nvil]", "rloo[num_samples=3]"]
    variant = "lazy[dataset=digits,latent_size=2]"
    experiment = experiment_from(tiny, {"estimators": names, "problems": [variant], "training.steps": 3})
    folder = ResultsFolder(tmp_path / "results")
    folder.create()
    weights = set()
    for cell in make_plan(experiment, estimators.ESTIMATORS.resolve, problems.PROBLEMS.resolve):
        assert run_cell(cell, folder, torch.device("cpu")).status is Status.DONE
        weights.add(folder.read_record(cell.folder)["fingerprints"]["initial_weights"])
    assert len(weights) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("unused", ["extra.weight", "does not use"]), ("unbuildable", ["lazy modules", "cannot be built"])],
)
def test_lazy_modules_that_cannot_be_built_are_refused(name, words):
    with pytest.raises(EstbenchError) as caught:
        problems.create(f"{name}[dataset=digits,latent_size=2]")
    assert all(word in str(caught.value) for word in [name, *words])
    assert "\n" not in str(caught.value)
