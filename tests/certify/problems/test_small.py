"""The settings' own gradients are right: what everything else is compared with."""

from __future__ import annotations

import pytest
import torch

from estbench.certify.settings import CONTINUOUS, SMALL, WIDE, settings_for
from estbench.certify.settings.base import WEIGHTS

EPSILON = 1e-6


@pytest.mark.parametrize("setting", [*SMALL, *CONTINUOUS, *WIDE], ids=lambda setting: setting.name)
def test_the_exact_gradient_is_the_slope_of_the_exact_value(setting):
    """Central differences of L, example by example: error of order epsilon^2 and of rounding over epsilon."""
    gradient = setting.exact()
    for name, value in {**setting.params, WEIGHTS: setting.weights, **setting.prior}.items():
        for place in [(0,) * (value.dim() - 1), tuple(size - 1 for size in value.shape[1:])]:
            shifted = []
            for step in (EPSILON, -EPSILON):
                leaves = setting.leaves()
                leaves[name].data[(slice(None), *place)] += step
                shifted.append(setting.objective(leaves).exact().detach())
            slope = (shifted[0] - shifted[1]) / (2 * EPSILON)
            torch.testing.assert_close(gradient[name][(slice(None), *place)], slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("latents", sorted({setting.latents.name for setting in SMALL}))
@pytest.mark.parametrize("bound", ["elbo", "multi-sample"])
def test_a_family_has_three_settings_or_none(latents, bound):
    found = settings_for({latents}, {bound})
    assert len(found) >= 3 or not found
    assert len({setting.name for setting in found}) == len(found)


def test_normal_bernoulli_and_categorical_latents_have_settings_for_both_bounds():
    for latents in ("normal", "bernoulli", "categorical"):
        for bound in ("elbo", "multi-sample"):
            assert len(settings_for({latents}, {bound})) >= 3


def test_both_conventions_of_the_kl_are_there():
    for latents in ("normal", "bernoulli", "categorical"):
        assert {setting.analytic_kl for setting in settings_for({latents}, {"elbo"})} == {True, False}


def test_replicates_are_copies_with_gradients_of_their_own():
    setting = SMALL[0]
    leaves = setting.leaves(3, dtype=torch.float32)
    assert {leaf.dtype for leaf in leaves.values()} == {torch.float32}
    objective = setting.objective(leaves)
    assert objective.batch_shape == (3, 2)
    (slope,) = torch.autograd.grad(objective.kl()[1].sum(), [leaves["loc"]])
    assert slope[[0, 2]].eq(0).all()
    assert slope[1].ne(0).all()
