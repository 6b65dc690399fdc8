"""Weights that encoder and decoder share: they count once, with all of their gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from oracles import plain_backward
from torch import nn

from estbench import estimators, problems
from estbench.measure import probe
from estbench.measure.gradients.groups import disjoint, groups_of


class Tied(nn.Module):
    """A decoder whose last layer is the encoder's first, transposed."""

    def __init__(self, layer, tie):
        super().__init__()
        self.first = nn.Linear(2, 8)
        self.bias = nn.Parameter(torch.zeros(64))
        self.borrowed = [layer]
        if tie == "module":
            self.layer = layer
        elif tie == "parameter":
            self.weight = layer.weight

    def forward(self, z):
        return F.linear(torch.tanh(self.first(z)), self.borrowed[0].weight.T, self.bias)


def tied(tie):
    torch.manual_seed(1)
    problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    layer = problem.encoder[0]
    if tie == "equal layers":  # one Parameter in two layers of the same shape
        problem.encoder = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
        problem.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 64))
        problem.decoder[2].weight = problem.encoder[2].weight
    else:
        problem.decoder = Tied(layer, tie)
    batch = problem.observe(torch.from_numpy(problem.data.train[:5]), torch.Generator().manual_seed(2))
    return problem, estimators.create("reparam"), batch


@pytest.mark.parametrize("tie", ["borrowed", "module", "parameter", "equal layers"])
def test_tied_weights_have_the_moments_of_all_of_their_gradient(tie):
    """In the loop, because the fast path cannot; R = 100. A false alarm has a probability of 3e-4 in all."""
    problem, estimator, batch = tied(tie)
    found = probe(problem, estimator, batch, 100, seed=3)
    assert found.path == "loop"
    drawn = plain_backward.draw(problem, estimator, batch, 100, 4)
    for place, z in plain_backward.z_scores(found, drawn, ("variance", "mean_norm2")).items():
        assert abs(z) < 4.5, place
    groups = groups_of(problem)
    assert sum(weight.numel() for group in groups.values() for weight in group) == sum(
        weight.numel() for weight in problem.parameters()
    )


def test_a_weight_counts_in_the_first_group_that_names_it():
    a, b, c = (nn.Parameter(torch.zeros(size)) for size in (1, 2, 3))
    assert disjoint({"x": [a, b, a], "y": iter([b, c]), "z": [c]}) == {"x": [a, b], "y": [c], "z": []}
