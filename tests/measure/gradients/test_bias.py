"""Bias is found where it is, is zero on average where it is not, and is bounded."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.measure import estimated_reference, exact_reference, probe
from estbench.measure.gradients.bias import compare
from estbench.measure.gradients.moments import MomentAccumulator, half_differences
from estbench.problems import Objective, Problem


def bits():
    """A Bernoulli VAE of 4 bits on 5 digits, whose gradient is enumerated."""
    torch.manual_seed(1)
    problem = problems.create("vae[dataset=digits,latents=bernoulli,latent_size=4,hidden=[6],kl=sampled]").double()
    batch = problem.observe(torch.from_numpy(problem.data.train[:5]), torch.Generator().manual_seed(2)).double()
    return problem, batch


def tally_of(gradients):
    accumulator = MomentAccumulator(gradients.shape[1], gradients)
    for chunk in gradients.split(2):
        accumulator.next_sum.add_(chunk.sum(0))
        accumulator.add(len(chunk), half_differences(chunk))
    return accumulator


def test_the_exact_reference_is_the_gradient_of_the_enumerated_objective():
    problem, batch = bits()
    found = exact_reference(problem, batch)
    params = problem.encode(batch)
    value = problem.objective(params, batch).exact().mean()
    weights = problem.groups()
    expected = torch.autograd.grad(value, [params["logits"], *weights["encoder"], *weights["decoder"]])
    assert torch.allclose(found.means["params", "logits"], expected[0].flatten())
    whole = torch.cat([found.means["weights", "encoder"], found.means["weights", "decoder"]])
    assert torch.allclose(whole, torch.cat([part.flatten() for part in expected[1:]]))


def test_an_unbiased_estimator_is_bounded_and_a_biased_one_is_caught():
    problem, batch = bits()
    reference = exact_reference(problem, batch)
    unbiased = probe(problem, estimators.create("rloo[num_samples=8]"), batch, 2000, seed=1, reference=reference)
    biased = probe(problem, estimators.create("detached"), batch, 200, seed=2, reference=reference)
    rows = {(row["group"], row["statistic"]): row for row in unbiased.rows}
    for group in ("logits", "encoder", "decoder"):
        assert rows[group, "bias2"]["low"] < 0 < rows[group, "bias2"]["high"]
        assert rows[group, "bias_bound"]["value"] < 0.1
        assert rows[group, "cosine"]["value"] == pytest.approx(1, abs=0.01)
    caught = {(row["group"], row["statistic"]): row for row in biased.rows}
    assert caught["encoder", "bias2"]["low"] > 0
    assert caught["encoder", "bias_bound"]["value"] > 0.5
    assert math.isnan(rows["encoder", "cosine"]["low"])


def test_a_reference_of_many_draws_finds_the_same():
    problem, batch = bits()
    reference = estimated_reference(problem, estimators.create("rloo[num_samples=8]"), batch, 2000, seed=9)
    assert reference.name == "rloo"
    unbiased = probe(problem, estimators.create("rloo[num_samples=4]"), batch, 1000, seed=1, reference=reference)
    biased = probe(problem, estimators.create("detached"), batch, 200, seed=2, reference=reference)
    rows = {(row["group"], row["statistic"]): row for row in unbiased.rows}
    assert rows["encoder", "bias2"]["low"] < 0 < rows["encoder", "bias2"]["high"]
    caught = {(row["group"], row["statistic"]): row for row in biased.rows}
    assert caught["encoder", "bias2"]["low"] > 0


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("both", [False, True], ids=["exact", "estimated"])
def test_the_squared_bias_is_unbiased_and_its_interval_covers(shift, both, largest_z):
    """400 experiments of 50 replicates in 6 dimensions, against an exact mean and against 80 draws of another.

    The U-statistic is degenerate at no bias, where its jackknife is too wide: coverage is 92 % at least.
    """
    rng = np.random.default_rng(3)
    truth = np.arange(6) / 3
    bias = np.full(6, shift / math.sqrt(6))
    values, inside, bounded = [], 0, 0
    for _ in range(400):
        accumulator = tally_of(torch.from_numpy(rng.standard_normal((50, 6)) + truth + bias))
        other = tally_of(torch.from_numpy(0.7 * rng.standard_normal((80, 6)) + truth)) if both else None
        mean = other.mean if both else torch.from_numpy(truth)
        found = compare(accumulator, mean, other)
        values.append(found["bias2"].value)
        inside += found["bias2"].low <= shift**2 <= found["bias2"].high
        bounded += found["bias_bound"].value >= shift / np.linalg.norm(truth) - 1e-12
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - shift**2) / error < largest_z(4)
    assert inside / 400 >= 0.91
    assert bounded / 400 >= 0.91


def test_the_cosine_is_free_of_the_means_own_noise(largest_z):
    """Two means at 60 degrees, in noise that is longer than they are."""
    rng = np.random.default_rng(4)
    one, other = np.array([1.0, 0, 0, 0]), np.array([0.5, math.sqrt(0.75), 0, 0])
    values = []
    for _ in range(500):
        accumulator = tally_of(torch.from_numpy(1.2 * rng.standard_normal((100, 4)) + one))
        values.append(compare(accumulator, torch.from_numpy(other), None)["cosine"].value)
    error = np.std(values, ddof=1) / math.sqrt(500)
    assert abs(np.mean(values) - 0.5) < largest_z(1) * error + 0.01  # a ratio keeps a bias of order 1 / R


class Part(Problem):
    """Two latents and a decoder; ``kind`` says what of it is constant, frozen, unused or does not depend on weights."""

    name = "part"
    latents = "normal"

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.encoder = nn.Linear(2, 2).double()
        self.decoder = nn.Linear(2, 2).double()
        self.unused = nn.Parameter(torch.ones(3).double())
        if kind == "frozen decoder":
            self.decoder.requires_grad_(requires_grad=False)

    def encode(self, x):
        loc = torch.full_like(x, 0.3) if self.kind == "constant loc" else self.encoder(x)
        return {"loc": loc, "log_scale": torch.full_like(x, -0.5) if "constant" in self.kind else -loc.square()}

    def objective(self, params, x):
        offset = 0.0 if self.kind == "decoder of nothing" else self.decoder.bias
        loc, variance = params["loc"], (2 * params["log_scale"]).exp()

        def q(values):
            return Independent(Normal(values["loc"], values["log_scale"].exp()), 1)

        def prior():
            return Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)

        def kl():
            return 0.5 * (loc.square() + variance - variance.log() - 1).sum(-1)

        return Objective(
            params,
            q,
            lambda z: -(z - x - offset).square().sum(-1),
            prior,
            x,
            kl,
            expectation=lambda: -((loc - x - offset).square() + variance).sum(-1) - kl(),
        )

    def groups(self):
        return {
            "encoder": list(self.encoder.parameters()),
            "decoder": list(self.decoder.parameters()),
            "unused": [self.unused],
        }


@pytest.mark.parametrize("kind", ["plain", "constant scale", "constant loc", "frozen decoder", "decoder of nothing"])
def test_what_is_constant_frozen_or_unused_has_an_exact_gradient(kind, largest_z):
    """Against finite differences at the variational parameters; an unbiased probe finds no bias in any group."""
    torch.manual_seed(0)
    problem, x = Part(kind), torch.randn(4, 2).double()
    reference = exact_reference(problem, x)
    params = {name: value.detach() for name, value in problem.encode(x).items()}
    for name, value in params.items():
        step = torch.zeros_like(value)
        step[1, 0] = 1e-5
        ends = [
            float(problem.objective(params | {name: value + sign * step}, x).exact().detach().mean())
            for sign in (1, -1)
        ]
        assert float(reference.means["params", name].view_as(value)[1, 0]) == pytest.approx(
            (ends[0] - ends[1]) / 2e-5, rel=1e-6
        )
    assert not reference.means["weights", "unused"].any()
    decoder = reference.means.get(("weights", "decoder"), torch.zeros(1))  # a frozen one is no group
    assert decoder.any() == (kind not in {"frozen decoder", "decoder of nothing"})
    assert reference.means["weights", "encoder"].any() == (kind != "constant loc")
    moments = probe(problem, estimators.create("reparam"), x, 100, seed=1, reference=reference)
    for row in moments.rows:
        if row["statistic"] == "bias2":
            error = (row["high"] - row["low"]) / 4
            assert abs(row["value"]) <= largest_z(8) * error + 1e-12, row


def test_the_exact_reference_of_a_linear_model_with_a_constant_scale():
    torch.manual_seed(0)
    problem = problems.create("linear_gaussian[dimensions=3]")
    batch = problem.observe(torch.tensor(problem.data.train[:5]), torch.Generator())
    found = exact_reference(problem, batch)
    assert found.means["params", "log_scale"].any()
    assert all(torch.isfinite(mean).all() for mean in found.means.values())


def test_a_problem_without_an_exact_gradient_says_so():
    torch.manual_seed(0)
    problem = problems.create("vae[dataset=digits,latent_size=2,hidden=[]]")
    batch = torch.zeros(2, 64)
    with pytest.raises(EstbenchError, match="has no exact value"):
        exact_reference(problem, batch)
