"""Expectations over all that a finite latent, or a draw without replacement, can be: for tests of exactness."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from estbench.certify.problems import SMALL
from estbench.latents import states

BY_NAME = {problem.name: problem for problem in SMALL}
QUADRATIC = [BY_NAME[f"{latents}, quadratic, analytic KL"] for latents in ("bernoulli", "categorical")]
EXPONENTIAL = [BY_NAME[f"{latents}, exponential, sampled KL"] for latents in ("bernoulli", "categorical")]
DECODER = [BY_NAME[f"{latents}, decoder, analytic KL"] for latents in ("bernoulli", "categorical")]


def named(problems):
    """For ``parametrize``: each problem under its name."""
    return {"argvalues": problems, "ids": [problem.name for problem in problems]}


@dataclass
class Enumerated:
    """The estimate for each outcome of the noise, (N, B, ...) by group, and the outcomes' probabilities, (N, B)."""

    gradients: dict[str, Tensor]
    probabilities: Tensor

    def mean(self, group):
        """The expected estimate, (B, ...)."""
        return self._expectation(self.gradients[group])

    def variance(self, group):
        """Trace of the covariance, summed over examples."""
        return float(self._expectation((self.gradients[group] - self.mean(group)).square()).sum())

    def _expectation(self, values):
        return torch.einsum("nb,nb...->b...", self.probabilities, values)

    def assert_exact(self, problem, groups=None):
        """The mean is the exact gradient."""
        exact = problem.exact_gradient()
        torch.testing.assert_close(self.probabilities.sum(0), torch.ones(self.probabilities.shape[1]).double())
        for group in groups or exact:
            torch.testing.assert_close(self.mean(group), exact[group], rtol=1e-10, atol=1e-12)


def estimate(estimator, problem, replicates, sample=None):
    """Gradients by group, (R, B, ...), where ``q.sample`` gives ``sample``."""
    leaves = problem.leaf_tensors(replicates)
    objective = problem.objective(leaves)
    if sample is not None:
        objective.q.sample = lambda shape: sample if tuple(shape) == (len(sample),) else None
    surrogate = estimator.eval()(objective)
    assert surrogate.shape == (replicates, len(problem.weights))
    return dict(zip(leaves, torch.autograd.grad(surrogate.sum(), list(leaves.values())), strict=True))


def over_samples(estimator, problem):
    """All that one draw from q can be."""
    q, values = distribution_and_states(problem)
    sample = values[None, :, None].expand(1, -1, len(problem.weights), *q.event_shape)
    return Enumerated(estimate(estimator, problem, len(values), sample), q.log_prob(sample[0]).exp())


def bias(found, problem):
    """Norm of the bias of the variational parameters' gradient, relative to that gradient's."""
    exact = problem.exact_gradient()["logits"]
    return float((found.mean("logits") - exact).norm() / exact.norm())


def over_ordered_draws(estimator, problem, draws, monkeypatch, module):
    """All that ``draws`` values drawn without replacement can be, in their order."""
    q, values = distribution_and_states(problem)
    order = torch.tensor(list(itertools.permutations(range(len(values)), draws))).T  # (k, N)
    p = q.log_prob(values[:, None]).exp()[order]  # (k, N, B)
    indices = indices_of(values)[order][:, :, None].expand(-1, -1, len(problem.weights), -1)
    monkeypatch.setattr(module, "sample_without_replacement", lambda log_p, count: indices)
    return Enumerated(estimate(estimator, problem, order.shape[1]), ordered_probability(p))


def ordered_probability(p):
    """Of k values drawn without replacement in this order, (k, ...) to (...)."""
    return (p / (1 - (p.cumsum(0) - p))).prod(0)


def distribution_and_states(problem):
    q = problem.latents.family(problem.params)
    return q, states(q)


def indices_of(values):
    """Categories, (N, D), of bits or one-hot vectors."""
    return values.long() if values.dim() == 2 else values.argmax(-1)
