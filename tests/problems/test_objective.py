"""The exact objective against sums written out by hand, for every family of finite latents."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, OneHotCategorical

from estbench.errors import EstbenchError
from estbench.latents import BernoulliLatents, CategoricalLatents, NormalLatents, states
from estbench.problems import Objective

LOGITS = torch.tensor([[0.3, -1.2, 0.8], [0.0, 2.0, -0.5]], dtype=torch.float64)


def integrand(z):
    """Of flat samples, (..., D)."""
    return -(z * torch.arange(1, z.shape[-1] + 1, dtype=z.dtype) / 3).sum(-1).square()


def objective_of(latents, params, *, analytic=False, samples=1):
    standard = {name: torch.zeros_like(value) for name, value in params.items()}
    return Objective(
        params,
        latents.family,
        lambda z: integrand(latents.flat(z)),
        lambda: latents.family(standard),
        kl=(lambda: latents.kl(params, standard)) if analytic else None,
        importance_samples=samples,
    )


def test_the_states_of_bits_come_in_binary_order():
    q = BernoulliLatents(2).family({"logits": torch.zeros(5, 2)})
    assert states(q).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_the_states_of_one_hot_vectors_are_all_their_pairs():
    q = CategoricalLatents(2, 3).family({"logits": torch.zeros(5, 2, 3)})
    found = states(q)
    assert found.shape == (9, 2, 3)
    assert found.argmax(-1).tolist() == [list(pair) for pair in itertools.product(range(3), repeat=2)]
    assert bool((found.sum(-1) == 1).all())


@pytest.mark.parametrize(
    ("latents", "params"),
    [
        (NormalLatents(1), {"loc": torch.zeros(2, 1), "log_scale": torch.zeros(2, 1)}),
        (BernoulliLatents(13), {"logits": torch.zeros(2, 13)}),
        (CategoricalLatents(4, 10), {"logits": torch.zeros(2, 4, 10)}),
    ],
)
def test_what_cannot_be_enumerated_says_so(latents, params):
    assert states(latents.family(params)) is None
    with pytest.raises(EstbenchError, match="continuous, or have more than 4096 values; take fewer latents"):
        objective_of(latents, params).exact()


def test_twelve_bits_are_enumerated_and_twelve_bits_in_pairs_are_not():
    params = {"logits": torch.zeros(1, 12)}
    assert len(states(BernoulliLatents(12).family(params))) == 4096
    with pytest.raises(EstbenchError, match="no exact value"):
        objective_of(BernoulliLatents(12), params, samples=2).exact()


@pytest.mark.parametrize("analytic", [True, False])
def test_the_elbo_of_bits_is_the_sum_over_all_of_them(analytic):
    found = objective_of(BernoulliLatents(3), {"logits": LOGITS}, analytic=analytic).exact()
    for example, logits in enumerate(LOGITS):
        total = 0.0
        for bits in itertools.product([0.0, 1.0], repeat=3):
            z = torch.tensor(bits, dtype=torch.float64)
            log_q = float(Bernoulli(logits=logits).log_prob(z).sum())
            f = float(integrand(z))
            total += math.exp(log_q) * (f + 3 * math.log(0.5) - log_q)
        assert float(found[example]) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("analytic", [True, False])
def test_the_elbo_of_categories_is_the_sum_over_all_of_them(analytic):
    logits = torch.stack([LOGITS, LOGITS.flip(1)], 1)
    found = objective_of(CategoricalLatents(2, 3), {"logits": logits}, analytic=analytic).exact()
    log_p = logits.log_softmax(-1)
    for example in range(2):
        total = 0.0
        for first, second in itertools.product(range(3), repeat=2):
            z = torch.eye(3, dtype=torch.float64)[[first, second]]
            log_q = float(log_p[example, 0, first] + log_p[example, 1, second])
            total += math.exp(log_q) * (float(integrand(z.flatten())) - 2 * math.log(3) - log_q)
        assert float(found[example]) == pytest.approx(total, rel=1e-12)


def test_the_multi_sample_bound_is_the_sum_over_all_tuples():
    logits = LOGITS[:, :2]
    found = objective_of(BernoulliLatents(2), {"logits": logits}, samples=3).exact()
    for example in range(2):
        values = []
        for bits in itertools.product([0.0, 1.0], repeat=2):
            z = torch.tensor(bits, dtype=torch.float64)
            log_q = float(Bernoulli(logits=logits[example]).log_prob(z).sum())
            values.append((log_q, math.exp(float(integrand(z)) + 2 * math.log(0.5) - log_q)))
        total = sum(
            math.exp(sum(log_q for log_q, _ in draw)) * math.log(sum(weight for _, weight in draw) / 3)
            for draw in itertools.product(values, repeat=3)
        )
        assert float(found[example]) == pytest.approx(total, rel=1e-12)


def test_replicates_are_kept_apart():
    params = {"logits": LOGITS.expand(4, 2, 3).clone()}
    params["logits"][2] += 1
    found = objective_of(BernoulliLatents(3), params).exact()
    assert found.shape == (4, 2)
    for replicate in range(4):
        alone = objective_of(BernoulliLatents(3), {"logits": params["logits"][replicate]}).exact()
        torch.testing.assert_close(found[replicate], alone, rtol=1e-12, atol=0)


def test_an_enumeration_costs_one_evaluation_of_each_state():
    objective = objective_of(CategoricalLatents(1, 3), {"logits": LOGITS[:, None]}, samples=2)
    objective.exact()
    assert objective.evaluations == 2 * 3


def test_a_one_hot_density_is_torch_s_at_the_corners_and_linear_between_them():
    logits = LOGITS[:, None]
    q = CategoricalLatents(1, 3).family({"logits": logits})
    corners = torch.eye(3, dtype=torch.float64)[:, None, None].expand(3, 2, 1, 3)
    expected = Independent(OneHotCategorical(logits=logits), 1).log_prob(corners)
    torch.testing.assert_close(q.log_prob(corners), expected, rtol=1e-12, atol=0)
    middle = 0.25 * corners[0] + 0.75 * corners[2]
    torch.testing.assert_close(q.log_prob(middle), 0.25 * expected[0] + 0.75 * expected[2], rtol=1e-12, atol=0)


WRONG = {
    "of the first sample": (lambda z: integrand(z[0]), "(2,)"),
    "mean over samples": (lambda z: integrand(z).mean(0), "(2,)"),
    "sum over everything": (lambda z: integrand(z).sum(), "()"),
    "not summed over latents": (lambda z: z, "(3, 2, 4)"),
    "with a dimension more": (lambda z: integrand(z)[..., None], "(3, 2, 1)"),
}


@pytest.mark.parametrize(("f", "shape"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("call", ["f", "log_weight", "bound_terms"])
def test_a_likelihood_of_another_shape_is_refused_because_it_would_broadcast(f, shape, call):
    latents = NormalLatents(4)
    params = {"loc": torch.zeros(2, 4), "log_scale": torch.zeros(2, 4)}
    fixed = {name: value[0] for name, value in params.items()}
    objective = Objective(params, latents.family, f, lambda: latents.family(fixed))
    with pytest.raises(EstbenchError) as caught:
        getattr(objective, call)(objective.q.sample((3,)))
    assert f"gives {shape} for z of (3, 2, 4), and must give (3, 2)" in str(caught.value)
