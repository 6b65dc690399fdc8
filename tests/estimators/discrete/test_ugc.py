"""UGC: exact by a sum over all pairs of bits and all flips, with nearly certain bits and others."""

from __future__ import annotations

import pytest
import torch
from oracles.discrete_objectives import moments, objective_of, prepared

from estbench.estimators.discrete import arm, ugc

# The bounds 1 / (2D) are crossed by the first and the last: their probabilities are 0.018 and 0.0067 from certainty.
LOGITS = torch.tensor([[-4.0, 0.3, 1.2, 5.0]], dtype=torch.float64)
CERTAIN = [True, False, False, True]
PAIRS = torch.tensor([(0, 0), (0, 1), (1, 0), (1, 1)], dtype=torch.float64)


def outcomes(logits):
    """All pairs of bits and flips, (2, N, 1, D) and (N, 1), with their probabilities, (N,)."""
    theta, latents = logits[0].sigmoid(), logits.shape[-1]
    unlike = torch.minimum(theta, 1 - theta)
    law = torch.stack([(1 - 2 * theta).clamp(min=0), unlike, unlike, (2 * theta - 1).clamp(min=0)])
    choice = torch.cartesian_prod(*[torch.arange(4)] * latents, torch.arange(latents))
    probability = law[choice[:, :-1], torch.arange(latents)].prod(-1) / latents
    return PAIRS[choice[:, :-1]].movedim(-1, 0)[:, :, None], choice[:, -1:], probability


def over_noise(variant, logits, f, monkeypatch):
    """Mean and variance of each bit's gradient, (1, D), over all of the noise."""
    bits, flips, probability = outcomes(logits)
    for module in (arm, ugc):
        monkeypatch.setattr(module, "antithetic_bits", lambda logits, pairs: (None, bits[:, None]))
    monkeypatch.setattr(torch, "randint", lambda high, size, device: flips)
    leaf = logits.expand(len(probability), *logits.shape).clone().requires_grad_()
    objective = objective_of(leaf, f)
    (gradients,) = torch.autograd.grad(prepared(variant, objective)(objective).sum(), [leaf])
    return moments(gradients, probability)


def table(seed):
    """Some function of four bits."""
    values = torch.randn(2, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return lambda z: values[tuple(z.long().unbind(-1))]


def exact(logits, f):
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective_of(leaf, f).exact().sum(), [leaf])
    return gradient


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_is_exact_for_nearly_certain_bits_and_others(seed, monkeypatch):
    mean, _ = over_noise("ugc", LOGITS, table(seed), monkeypatch)
    torch.testing.assert_close(mean, exact(LOGITS, table(seed)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_nearly_certain_bits_have_less_noise_than_with_disarm_and_the_others_the_same(seed, monkeypatch):
    """For functions without structure, whose value changes as much by one bit as by several."""
    certain = torch.tensor([CERTAIN])
    ours, theirs = (over_noise(name, LOGITS, table(seed), monkeypatch)[1] for name in ("ugc", "disarm"))
    assert (ours[certain] < 0.7 * theirs[certain]).all()
    torch.testing.assert_close(ours[~certain], theirs[~certain], rtol=1e-12, atol=0)


def test_where_f_does_not_differ_within_a_pair_disarm_has_no_noise_and_ugc_has(monkeypatch):
    """f = 1[b_1 = b_2], with a fair second bit: its antithetic pair (1, x), (0, 1 - x) has the same f."""
    logits = torch.tensor([[-4.0, 0.0]], dtype=torch.float64)

    def f(z):
        return (z[..., 0] == z[..., 1]).double()

    ours, theirs = (over_noise(name, logits, f, monkeypatch)[1][0, 0] for name in ("ugc", "disarm"))
    assert theirs < 1e-20
    assert ours > 1e-4


def test_one_bit_has_no_noise(monkeypatch):
    for logit in (-3.0, 0.0, 0.4):
        logits = torch.tensor([[logit]], dtype=torch.float64)
        mean, variance = over_noise("ugc", logits, lambda z: (z[..., 0] - 0.45).square(), monkeypatch)
        torch.testing.assert_close(mean, exact(logits, lambda z: (z[..., 0] - 0.45).square()), rtol=1e-12, atol=1e-15)
        assert variance < 1e-20
