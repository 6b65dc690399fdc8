"""The optimisers' quick step: the bits of torch's own."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from estbench.training.optimizers import optimizer_of, quick_step


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 50), nn.Tanh(), nn.Linear(50, 3))


def run(model, name, steps, *, quick, missing=(), rates=None):
    """Train a copy for some steps and return its weights and moments; one weight has no gradient in some steps."""
    model = copy.deepcopy(model)
    optimizer = optimizer_of(model, 0.01, name, 0.1 if name == "adamw" else 0.0)
    update = quick_step(optimizer) if quick else optimizer.step
    noise = torch.Generator().manual_seed(1)
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 7, generator=noise)).sum().backward()
        if step in missing:
            model[0].bias.grad = None
        if rates:
            optimizer.param_groups[0]["lr"] = rates[step]
        update()
    return [*model.parameters()], optimizer.state_dict()["state"]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize(
    "options", [{}, {"missing": {0, 3}}, {"rates": [0.1, 0.0, 1e-3, 0.2, 0.1, 0.01]}], ids=["plain", "missing", "rates"]
)
def test_a_quick_step_has_the_bits_of_torchs_own(model, name, options):
    (weights, moments), (others, other_moments) = (run(model, name, 6, quick=q, **options) for q in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
    assert moments.keys() == other_moments.keys()
    for number, each in moments.items():
        assert each.keys() == other_moments[number].keys()
        assert all(torch.equal(torch.as_tensor(each[k]), torch.as_tensor(other_moments[number][k])) for k in each)


def test_training_does_not_load_the_compiler_of_torch():
    """It takes a second, and no step of an optimiser needs it."""
    program = """
import sys, torch
from estbench.training.optimizers import optimizer_of, quick_step

model = torch.nn.Linear(2, 1)
optimizer = optimizer_of(model, 0.1)
step = quick_step(optimizer)
for _ in range(2):
    optimizer.zero_grad()
    model(torch.ones(2)).sum().backward()
    step()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_weights_of_several_types_take_torchs_own_step(model):
    model[2].double()
    optimizer = optimizer_of(model, 0.01)
    assert quick_step(optimizer) == optimizer.step


def test_a_step_after_moments_were_loaded_goes_on_from_them(model):
    twins = [copy.deepcopy(model) for _ in range(2)]
    optimizers = [optimizer_of(twin, 0.01) for twin in twins]
    for twin in twins:
        for weight in twin.parameters():
            weight.grad = torch.ones_like(weight)
    for optimizer in optimizers:
        optimizer.step()
    optimizers[0].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    quick_step(optimizers[0])()
    optimizers[1].step()
    assert all(torch.equal(a, b) for a, b in zip(*(twin.parameters() for twin in twins), strict=True))
