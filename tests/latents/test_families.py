"""Families of latents: the closed-form KL is the sum over all values, whatever the shapes of q and of the prior."""

from __future__ import annotations

import pytest
import torch

from estbench.latents import BernoulliLatents, CategoricalLatents, states


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
