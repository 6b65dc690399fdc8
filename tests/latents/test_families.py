"""Families of latents: their closed-form KL is that of their densities, whatever the shapes of q and of the prior."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from estbench import estimators, problems
from estbench.latents import BernoulliLatents, CategoricalLatents, NormalLatents, OneHot, states
from estbench.latents.densities import closed_form_kl


@pytest.mark.parametrize("latents", [BernoulliLatents(3), CategoricalLatents(2, 3)], ids=lambda latents: latents.name)
@pytest.mark.parametrize("batch_shape", [(), (4,), (2, 5)])
def test_the_kl_is_the_sum_over_all_values(latents, batch_shape):
    generator = torch.Generator().manual_seed(0)
    q = latents.split(torch.randn(*batch_shape, latents.outputs, generator=generator, dtype=torch.float64))
    prior = latents.split(torch.randn(latents.outputs, generator=generator, dtype=torch.float64))
    values = states(latents.family(q))
    values = values.view(len(values), *[1] * len(batch_shape), *values.shape[1:])
    log_q, log_p = latents.family(q).log_prob(values), latents.family(prior).log_prob(values)
    found = latents.kl(q, prior)
    assert found.shape == batch_shape
    torch.testing.assert_close(found, (log_q.exp() * (log_q - log_p)).sum(0), rtol=1e-12, atol=1e-12)


def test_the_kl_to_categories_that_p_does_not_have_is_infinite_as_torchs_is():
    """With q = p without them it is zero, and a value that neither has counts nothing."""
    p = OneHot(probs=torch.tensor([0.25, 0.75, 0.0]))
    q = OneHot(probs=torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.25, 0.25]]))
    assert kl_divergence(q, p).tolist() == [0.0, float("inf")]


def test_the_kl_of_normals_has_a_formula_for_the_types_that_a_vae_has():
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    ours = [NormalLatents(3).family({"loc": each, "log_scale": -each}) for each in (q, p)]
    torchs = [Independent(Normal(each, (-each).exp()), 1) for each in (q, p)]
    expected = kl_divergence(*torchs)
    for first, second in ((ours[0], ours[1]), (ours[0], torchs[1]), (torchs[0], ours[1])):
        torch.testing.assert_close(closed_form_kl(first, second), expected, rtol=1e-12, atol=1e-12)


def test_the_kl_of_a_very_narrow_normal_is_that_of_its_parameters():
    """Its draws are its mean, when rounded, and the square of its scale is zero."""
    latents = NormalLatents(2)
    q = {"loc": torch.tensor([3.0, -1.0]), "log_scale": torch.tensor([-60.0, -80.0])}
    p = {"loc": torch.zeros(2), "log_scale": torch.zeros(2)}
    torch.testing.assert_close(closed_form_kl(latents.family(q), latents.family(p)), latents.kl(q, p))


@pytest.mark.parametrize("seed", [18, 31, 116])
def test_no_weights_of_a_vae_make_its_kl_look_wrong(seed):
    """Of these, posteriors became very narrow where the check of the KL takes multiples of their parameters."""
    torch.manual_seed(seed)
    problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    assert estimators.create_for("stl", problem).name == "stl"
