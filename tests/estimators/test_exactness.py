"""The score-function and pathwise families in closed form; the certificate checks that their means are exact."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from estbench import estimators
from estbench.certify.sampling import sample_gradients
from estbench.certify.theory.toys import make_posterior_toy
from estbench.estimators.score_function import leave_one_out_mean

DRAWS = 100_000


def variances(problem, estimator, noise, weights):
    """Exact variance of one gradient, (3, B)."""
    gradients = problem.gradients(estimator, len(weights), noise)
    mean = (weights[:, None, None] * gradients).sum(0)
    return (weights[:, None, None] * (gradients - mean).square()).sum(0)


def test_pathwise_is_not_always_the_less_noisy_one(toy, quadrature):
    """The crossover of Mohamed et al. (2020, fig. 3): cos(kz) at m = s = 1 turns against the path as k grows."""
    noise, weights = quadrature(1, 100)
    printed = {0.5: (0.0393, 0.4552), 1.0: (0.2677, 0.3240), 5.0: (12.5, 0.50)}
    for k, expected in printed.items():
        problem = toy("cosine", "none", [(1.0, 1.0, k)])
        found = [
            float(variances(problem, problem.prepared(variant), noise, weights)[0, 0])
            for variant in ("reparam", "reinforce")
        ]
        assert found == pytest.approx(expected, abs=5e-3 if k == 5 else 5e-5)


def test_detached_loses_the_path_and_nothing_else(toy, largest_z):
    """Its mean is the KL's gradient for the encoder and the exact gradient for the model's own weight."""
    problem = toy("quadratic", "analytic")
    whole, without_kl = problem.exact(), toy("quadratic", "none").exact()
    torch.manual_seed(12)
    gradients = problem.gradients(problem.prepared("detached"), DRAWS)
    torch.testing.assert_close(gradients.mean(0)[:2], (whole - without_kl)[:2], rtol=1e-10, atol=1e-10)
    error = gradients[:, 2].std(0) / math.sqrt(DRAWS)
    score = (gradients[:, 2].mean(0) - whole[2]) / error
    assert float(score.abs().max()) < largest_z(score.numel())


def test_leave_one_out_mean_leaves_exactly_one_out():
    f = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([torch.cat([f[:s], f[s + 1 :]]).mean(0) for s in range(5)])
    torch.testing.assert_close(leave_one_out_mean(f), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("variant", "weights"), [("reinforce[num_samples=2]", [[1, 0], [0, 1]]), ("rloo", [[1, -1], [-1, 1]])]
)
def test_a_sampled_kl_brings_its_value_into_the_signal_and_no_direct_gradient(variant, weights, toy):
    """(1/S) sum_s signal_s grad log q(z_s), with f = f(z) + log p(z) - log q(z): the direct gradient of -log q would
    leave the mean as it is, and add noise.
    """
    problem = toy("cosine", "sampled")
    estimator = problem.prepared(variant)
    torch.manual_seed(16)
    found = problem.gradients(estimator, 6)[:, 0]
    torch.manual_seed(16)
    leaves = {name: leaf.detach() for name, leaf in problem.leaves(6).items()}
    loc, log_scale, k = leaves.values()
    objective = problem.objective(leaves)
    z = objective.q.sample((2,))
    f = (k * z).cos().squeeze(-1) + objective.prior.log_prob(z) - objective.q.log_prob(z)
    signal = torch.einsum("st,t...->s...", torch.tensor(weights).double(), f)
    expected = (signal[..., None] * (z - loc) / (2 * log_scale).exp()).mean(0).squeeze(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_rloo_is_the_sample_covariance_of_f_and_the_score(toy):
    """(1/(S-1)) sum_s (f_s - fbar)(score_s - scorebar): what makes its variance what it is."""
    problem = toy("cosine", "none")
    estimator = problem.prepared("rloo[num_samples=4]")
    torch.manual_seed(14)
    found = problem.gradients(estimator, 6)[:, 0]
    torch.manual_seed(14)
    leaves = {name: leaf.detach() for name, leaf in problem.leaves(6).items()}
    loc, log_scale, k = leaves.values()
    z = problem.objective(leaves).q.sample((4,))
    f, score = (k * z).cos(), (z - loc) / (2 * log_scale).exp()
    covariance = ((f - f.mean(0)) * (score - score.mean(0))).sum(0) / 3
    torch.testing.assert_close(found, covariance.squeeze(-1), rtol=0, atol=1e-12)


def test_stl_has_no_variance_where_q_is_the_posterior():
    """Each draw is the exact gradient, to rounding."""
    posterior = make_posterior_toy()
    shifted = dataclasses.replace(posterior, params=posterior.params | {"loc": posterior.params["loc"] + 0.5})

    def draw(variant, problem):
        torch.manual_seed(15)
        drawn = sample_gradients(estimators.create(variant), problem, 500)
        return torch.stack([drawn[name] for name in ("loc", "log_scale")])

    assert float(draw("stl", posterior).abs().max()) < 1e-12
    # With the score of q, or away from the posterior, there is noise.
    assert float(draw("reparam", posterior).var(1).min()) > 0.1
    assert float(draw("stl", shifted)[1].var(0).min()) > 0.1
