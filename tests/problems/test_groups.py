"""Groups of weights that are found from names, and from what q depends on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from estbench import estimators, measure, problems
from estbench.datasets import Dataset
from estbench.latents import NormalLatents
from estbench.problems import Objective, Problem
from estbench.problems.vae import VAE


def names_by_group(problem):
    names = {id(weight): name for name, weight in problem.named_parameters()}
    return {group: [names[id(weight)] for weight in weights] for group, weights in problem.groups().items()}


class Small(Problem):
    """A problem whose attributes have no telling names: q depends on ``net``, ``shift`` and the normalisation."""

    name = "small"
    latents = "normal"

    def __init__(self):
        super().__init__()
        rows = torch.rand(8, 3, generator=torch.Generator().manual_seed(0)).numpy()
        self.data = Dataset("rows", rows, rows, rows, shape=(1, 3))
        self.family = NormalLatents(2)
        self.generator = nn.Linear(2, 3)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.shift = nn.Parameter(torch.zeros(1))
        self.unused = nn.Parameter(torch.zeros(1))
        self.still = nn.Parameter(torch.zeros(1), requires_grad=False)

    def observe(self, intensities, generator):
        return intensities

    def encode(self, x):
        return self.family.split(self.net(x) + self.shift)

    def objective(self, params, x):
        normal = torch.distributions.Normal
        return Objective(
            params,
            self.family.family,
            lambda z: normal(self.generator(z), 1.0).log_prob(x).sum(-1),
            lambda: self.family.family({name: torch.zeros_like(value) for name, value in params.items()}),
        )


SMALL = {
    "encoder": ["shift", "net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"],
    "decoder": ["unused", "still", "generator.weight", "generator.bias"],
}


@pytest.mark.parametrize(
    ("variant", "encoder", "decoder", "prior"),
    [
        ("vae[dataset=digits,likelihood=gaussian,prior=learned,hidden=[],latent_size=2]", 1, 2, ["prior.outputs"]),
        ("hierarchical_vae[dataset=digits,prior=learned,hidden=[],latent_size=2]", 2, 2, ["prior.outputs"]),
        ("sbn_tiny", 1, 1, None),
    ],
)
def test_names_decide_and_the_attribute_of_that_very_name_is_first(variant, encoder, decoder, prior):
    found = names_by_group(problems.create(variant))
    parts = {group: list(dict.fromkeys(name.rpartition(".")[0] for name in found[group])) for group in found}
    assert list(found) == ["encoder", "decoder", *(["prior"] if prior else [])]
    assert len(parts["encoder"]) == encoder
    assert len(parts["decoder"]) == decoder
    assert found.get("prior") == prior
    assert parts["encoder"][0].endswith("encoder.0")
    assert parts["decoder"][0] in {"decoder.0", "vae.decoder.0"}


def test_weights_without_such_a_name_belong_to_the_side_that_uses_them():
    assert names_by_group(Small()) == SMALL


@pytest.mark.parametrize("training", [True, False])
def test_looking_changes_nothing(training):
    problem = Small().train(training)
    problem.net[1].eval()
    modes = [module.training for module in problem.modules()]
    state = {name: value.clone() for name, value in problem.state_dict().items()}
    noise = torch.get_rng_state()
    with torch.inference_mode():
        assert names_by_group(problem) == SMALL
    assert modes == [module.training for module in problem.modules()]
    assert all(torch.equal(value, state[name]) for name, value in problem.state_dict().items())
    assert all(weight.grad is None for weight in problem.parameters())
    assert torch.equal(noise, torch.get_rng_state())


def test_it_works_in_double_precision():
    assert names_by_group(Small().double()) == SMALL


def test_tied_weights_count_once_in_the_first_of_their_groups():
    class Tied(VAE):
        def __init__(self, options=None):
            super().__init__(options)
            self.decoder[0].weight = nn.Parameter(self.encoder[0].weight.detach().T.clone())
            self.prior_net = self.decoder[0]

    found = names_by_group(Tied(VAE.Options(dataset="digits", hidden=(), latent_size=2)))
    assert found == {
        "encoder": ["encoder.0.weight", "encoder.0.bias"],
        "decoder": ["decoder.0.weight", "decoder.0.bias"],
    }


def test_a_method_of_ones_own_stands():
    class Own(Small):
        def groups(self):
            return {"all": list(self.parameters())}

    assert list(names_by_group(Own())) == ["all"]


def test_a_probe_measures_the_groups_that_were_found():
    problem = Small()
    x = torch.from_numpy(problem.data.train)
    moments = measure.probe(problem, estimators.create("reparam"), x, replicates=4)
    assert moments.value("weights", "encoder", "variance") > 0
    assert moments.value("weights", "decoder", "variance") > 0
