"""The score-function family on discrete latents has the exact gradient there, by enumeration of all states."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from estbench import estimators
from estbench.problems import Objective

FAMILIES = {
    "bernoulli": lambda logits: Independent(Bernoulli(logits=logits), 1),
    "categorical": lambda logits: OneHotCategorical(logits=logits),
}
STATES = {
    "bernoulli": torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64),
    "categorical": torch.eye(3, dtype=torch.float64),
}
LOGITS = torch.tensor([[-0.8, 0.3, 1.2], [0.1, -2.0, 0.5]], dtype=torch.float64)
VARIANTS = (
    "reinforce",
    "rloo",
    "reinforce[num_samples=2]",
    "reinforce[baseline=ema]",
    "reinforce[baseline=nvil,hidden=5]",
    "rloo[num_samples=3]",
)
CASES = [
    (variant, latents)
    for variant in VARIANTS
    for latents in FAMILIES
    if latents in estimators.create(variant).supports and estimators.create(variant).unbiased
]


def integrand(z, weight):
    """Neither linear nor a sum over latents; ``weight`` stands for the decoder."""
    centred = z - weight
    return centred.square().sum(-1) + 2 * centred.prod(-1) + 0.7 * (z * torch.arange(3).double()).sum(-1).sin()


def objective_of(latents, logits, weight, family, kl):
    def prior():
        return FAMILIES[latents](torch.zeros(3, dtype=torch.float64))

    return Objective({"logits": logits}, family, lambda z: integrand(z, weight), prior, context=LOGITS, kl=kl)


def exact(latents, sampled):
    """Gradient of sum_z q(z) f(z) with respect to the logits and to the weight."""
    logits, weight = LOGITS.clone().requires_grad_(), torch.full_like(LOGITS, 0.45, requires_grad=True)
    states = STATES[latents][:, None, :]
    q = FAMILIES[latents](logits)
    f = integrand(states, weight)
    if sampled:
        f = f + FAMILIES[latents](torch.zeros_like(logits)).log_prob(states) - q.log_prob(states)
    value = (q.log_prob(states).exp() * f).sum()
    return torch.stack(torch.autograd.grad(value, [logits, weight]))


@pytest.mark.parametrize("kl", ["none", "sampled"])
@pytest.mark.parametrize(("variant", "latents"), CASES)
def test_the_expected_gradient_is_exact(variant, latents, kl):
    torch.manual_seed(0)
    estimator = estimators.create(variant)
    samples, states = estimator.evaluations, STATES[latents]
    # All tuples of states that the samples can be in, one for each replicate: (S, R, 1, D).
    tuples = torch.stack([torch.stack(chosen) for chosen in itertools.product(states, repeat=samples)], 1)[:, :, None]

    def family(params):
        q = FAMILIES[latents](params["logits"])
        q.sample = lambda shape: tuples.expand(-1, -1, 2, -1) if tuple(shape) == (samples,) else None
        return q

    analytic = (lambda: torch.zeros(tuples.shape[1], 2, dtype=torch.float64)) if kl == "none" else None
    leaves = [
        value.expand(tuples.shape[1], -1, -1).clone().requires_grad_()
        for value in (LOGITS, torch.full_like(LOGITS, 0.45))
    ]
    objective = objective_of(latents, *leaves, family, analytic)
    estimator.prepare(objective)
    estimator(objective)  # a step, so that a moving average has something to subtract
    surrogate = estimator.eval()(objective_of(latents, *leaves, family, analytic))
    found = torch.stack(torch.autograd.grad(surrogate.sum(), leaves))
    probability = FAMILIES[latents](LOGITS).log_prob(tuples).sum(0).exp()
    torch.testing.assert_close(probability.sum(0), torch.ones(2).double())
    expected = (probability[..., None] * found).sum(1)
    torch.testing.assert_close(expected, exact(latents, kl == "sampled"), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("theta", "target", "reinforce", "rloo"),
    [
        (0.5, 0.45, 0.01594, 0.000625),
        (0.5, 0.499, 0.01563, 2.5e-07),
        (0.1, 0.45, 0.0077, 0.000369),
        (0.8, 0.45, 0.007921, 0.000544),
        (0.9, 0.49, 0.005275, 1.476e-05),
    ],
)
def test_the_variance_on_one_coin_is_the_known_one(theta, target, reinforce, rloo):
    """f(b) = (b - t)^2: variance of one estimate with respect to the logit, to the four figures of the table."""
    logit = torch.tensor(theta, dtype=torch.float64).logit()
    for variant, known in (("reinforce", reinforce), ("rloo", rloo)):
        estimator = estimators.create(variant)
        samples = estimator.evaluations
        tuples = torch.tensor(list(itertools.product([0.0, 1.0], repeat=samples)), dtype=torch.float64).T[
            ..., None, None
        ]
        logits = logit.expand(tuples.shape[1], 1, 1).clone().requires_grad_()

        def family(params, tuples=tuples):
            q = FAMILIES["bernoulli"](params["logits"])
            q.sample = lambda _: tuples
            return q

        objective = Objective(
            {"logits": logits},
            family,
            lambda z: (z - target).square().sum(-1),
            lambda: FAMILIES["bernoulli"](torch.zeros(1).double()),
            kl=lambda shape=tuples.shape: torch.zeros(shape[1], 1).double(),
        )
        (gradients,) = torch.autograd.grad(estimator(objective).sum(), [logits])
        weights = FAMILIES["bernoulli"](logit[None, None]).log_prob(tuples).sum(0).exp()
        mean = (weights * gradients[..., 0]).sum()
        variance = float((weights * (gradients[..., 0] - mean).square()).sum())
        assert float(mean) == pytest.approx((1 - 2 * target) * theta * (1 - theta), rel=1e-10)
        assert variance == pytest.approx(known, rel=1e-3)
