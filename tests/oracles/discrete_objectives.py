"""Objectives over finite latents, with an estimator's mean and variance by a sum over all of its noise."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from estbench import estimators
from estbench.certify.problems import SMALL
from estbench.latents import BernoulliLatents, CategoricalLatents, states
from estbench.problems import Objective

BITS = [s for s in SMALL if s.latents.name == "bernoulli" and s.bound == "elbo"]
ONE_HOT = [s for s in SMALL if s.latents.name == "categorical" and s.bound == "elbo"]
BATCH = (1,)  # one example


def name_of(problem):
    return problem.name.replace(", ", "-").replace(" ", "_")


def probability(theta):
    """The logit of a probability, (1, 1): one example, one bit."""
    return torch.tensor([[theta]], dtype=torch.float64).logit()


def square(target):
    """f(b) = (b - t)^2, summed over bits."""
    return lambda z: (z - target).square().sum(-1)


def objective_of(logits, f, categories=None, context=None):
    """E_q[f] for logits of (*R, B, D), or (*R, B, D, C) where ``categories`` is C; no KL, uniform prior."""
    if categories is None:
        latents, batch = BernoulliLatents(logits.shape[-1]), logits.shape[:-1]
    else:
        latents, batch = CategoricalLatents(logits.shape[-2], categories), logits.shape[:-2]
    return Objective(
        {"logits": logits},
        latents.family,
        f,
        lambda: latents.family({"logits": torch.zeros_like(logits)}),
        context,
        lambda: torch.zeros(batch, dtype=logits.dtype),
    )


def prepared(variant, objective, seed=0):
    """An estimator whose learned parts are built, in eval mode."""
    torch.manual_seed(seed)
    estimator = estimators.create(variant)
    estimator.prepare(objective)
    return estimator.eval()


def all_samples(q, samples):
    """Every ``samples``-tuple of values of q, one for each replicate: (S, R, B, *event) for q of (B, *event)."""
    values = states(q)
    index = torch.tensor(list(itertools.product(range(len(values)), repeat=samples))).T
    tuples = values[index][:, :, None]
    return tuples.expand(*tuples.shape[:2], *q.batch_shape, *q.event_shape)


def fixed_samples(objective, tuples):
    """Make q draw these samples, and no others."""

    def sample(shape=()):
        assert tuple(shape) == tuples.shape[:1], "the estimator draws another number of samples"
        return tuples

    objective.q.sample = sample
    return objective


def enumerated(estimator, logits, f, samples, categories=None):
    """Mean and variance of each coordinate of the gradient, of the shape of the logits, (B, D) or (B, D, C)."""
    tuples = all_samples(objective_of(logits, f, categories).q, samples)
    leaf = logits.expand(tuples.shape[1], *logits.shape).clone().requires_grad_()
    objective = fixed_samples(objective_of(leaf, f, categories), tuples)
    weights = objective.frozen_q().log_prob(tuples).sum(0).exp()
    (gradients,) = torch.autograd.grad(estimator(objective).sum(), [leaf])
    return moments(gradients, weights)


def enumerated_problem(estimator, problem, samples):
    """The mean gradient of a problem by group, and what it should be: both (B, ...)."""
    tuples = all_samples(problem.objective(problem.leaf_tensors()).q, samples)
    leaves = problem.leaf_tensors(tuples.shape[1])
    objective = fixed_samples(problem.objective(leaves), tuples)
    weights = objective.frozen_q().log_prob(tuples).sum(0).exp()
    found = torch.autograd.grad(estimator(objective).sum(), list(leaves.values()))
    exact = problem.exact_gradient()
    return {name: (moments(g, weights)[0], exact[name]) for name, g in zip(leaves, found, strict=True)}


def moments(gradients, weights):
    """Mean and variance over replicates, (R, B, ...), that have weights, (R, B) or (R,)."""
    weights = weights.view(*weights.shape, *[1] * (gradients.dim() - weights.dim()))
    mean = (weights * gradients).sum(0)
    return mean, (weights * (gradients - mean).square()).sum(0)


def legendre(edges, nodes):
    """Points and weights of Gauss-Legendre quadrature on the pieces between ``edges``: (pieces * nodes,) each."""
    abscissae, masses = np.polynomial.legendre.leggauss(nodes)
    pieces = list(itertools.pairwise(edges))
    points = [low + (high - low) * (abscissae + 1) / 2 for low, high in pieces]
    weights = [(high - low) * masses / 2 for low, high in pieces]
    return torch.from_numpy(np.concatenate(points)), torch.from_numpy(np.concatenate(weights))
