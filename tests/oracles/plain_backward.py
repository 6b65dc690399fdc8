"""Gradients by nothing but backward calls of a model in eval mode, and how far a probe is from them."""

from __future__ import annotations

import math

import numpy as np
import torch

# Standard errors in half of a 95 % interval.
HALF = 1.96


def draw(problem, estimator, batch, replicates, seed, *, training=False):
    """Gradients of the minibatch-mean surrogate, (R, P) by space and group; a weight counts in its first group."""
    problem.train(training)
    estimator.eval()
    torch.manual_seed(seed)
    owner = {}
    for group, weights in problem.groups().items():
        for weight in weights:
            owner.setdefault(weight, ("weights", group))
    trained = {weight: place for weight, place in owner.items() if weight.requires_grad}
    rows = {}
    for _ in range(replicates):
        problem.zero_grad()
        params = problem.encode(batch)
        for value in params.values():
            if value.requires_grad:
                value.retain_grad()
        estimator(problem.objective(params, batch)).mean().backward()
        found = {}
        for name, value in params.items():
            if value.requires_grad:
                found["params", name] = [value.grad]
        for weight, place in trained.items():
            found.setdefault(place, []).append(torch.zeros_like(weight) if weight.grad is None else weight.grad)
        for place, parts in found.items():
            rows.setdefault(place, []).append(torch.cat([part.to_dense().flatten() for part in parts]).double().numpy())
    return {place: np.stack(drawn) for place, drawn in rows.items()}


def variance(drawn):
    """The trace of the covariance of (R, P) gradients, and its relative standard error from pairs."""
    pairs = np.square(drawn[::2] - drawn[1::2]).sum(1) / 2
    return float(drawn.var(0, ddof=1).sum()), float(pairs.std(ddof=1) / pairs.mean() / math.sqrt(len(pairs)))


def mean_norm2(drawn):
    """The squared norm of the mean of (R, P) gradients, and its standard error by the jackknife."""
    n, total, squares = len(drawn), drawn.sum(0), np.square(drawn).sum(1)

    def estimate(total, squares, n):
        return (np.square(total).sum(-1) - squares) / (n * (n - 1))

    left = estimate(total - drawn, squares.sum() - squares, n - 1)
    return float(estimate(total, squares.sum(), n)), float(math.sqrt((n - 1) / n * np.square(left - left.mean()).sum()))


def z_scores(moments, drawn, statistics=("variance",)):
    """Differences between a probe and gradients by hand in standard errors, by space, group and statistic.

    Variances are compared on the log scale, on which their estimates are closer to normal.
    """
    found = {}
    for (space, group), rows in drawn.items():
        for statistic in statistics:
            ((value, low, high),) = [
                (row["value"], row["low"], row["high"])
                for row in moments.rows
                if (row["space"], row["group"], row["statistic"]) == (space, group, statistic)
            ]
            if statistic == "variance":
                expected, error = variance(rows)
                difference, own = math.log(value / expected), math.log(high / low) / 2 / HALF
            else:
                expected, error = mean_norm2(rows)
                difference, own = value - expected, (high - low) / 2 / HALF
            found[space, group, statistic] = difference / math.hypot(error, own)
    return found
