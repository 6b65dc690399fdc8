"""The surrogate of least variance: exact on quadratics, optimal among such, and what slack does."""

from __future__ import annotations

import pytest
import torch
from oracles.enumeration import QUADRATIC, bias, named, over_samples

from estbench import estimators
from estbench.estimators.discrete.mve import surrogate_rows

CATEGORIES = 5


def probabilities(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return (1.5 * torch.randn(CATEGORIES, generator=generator, dtype=dtype)).softmax(-1)


def rows_of(p, slack=0.0):
    """S_k of every category, (C, C, C)."""
    return surrogate_rows(p, torch.eye(len(p), dtype=p.dtype), slack)


def reinmax_rows(p):
    """J(p) and the score's outer product, averaged: written out for every category."""
    score = torch.eye(len(p), dtype=p.dtype) - p
    jacobian = p.diag() - torch.outer(p, p)
    return (jacobian + score[:, :, None] * score[:, None, :]) / 2


def power(rows, p):
    """E|S' g|^2 for a g of independent components of variance 1."""
    return float((p * rows.square().sum((1, 2))).sum())


@pytest.mark.parametrize("problem", **named(QUADRATIC))
def test_exact_on_quadratics(problem):
    over_samples(estimators.create("mve"), problem).assert_exact(problem)


@pytest.mark.parametrize("problem", **named(QUADRATIC))
def test_slack_brings_a_bias_that_grows_to_that_of_straight_through(problem):
    biases = [bias(over_samples(estimators.create(f"mve[slack={s}]"), problem), problem) for s in (0.1, 1.0, 1e9)]
    through = over_samples(estimators.create("straight-through"), problem)
    assert 0.001 < biases[0] < biases[1] < biases[2]
    assert biases[2] == pytest.approx(bias(through, problem), rel=1e-6)


def test_two_categories_and_equal_probabilities_leave_no_choice():
    for p in (torch.tensor([0.3, 0.7], dtype=torch.float64), torch.full((4,), 0.25, dtype=torch.float64)):
        torch.testing.assert_close(rows_of(p), reinmax_rows(p), rtol=1e-12, atol=1e-14)


def test_it_has_the_least_second_moment_of_all_that_are_exact_on_quadratics():
    """The same optimum by one dense least-norm problem, with every constraint written as an equation."""
    p = probabilities()
    count, score = len(p), torch.eye(len(p), dtype=p.dtype) - p
    equations, values = [], []  # of m_ki as unknowns, (C, C), with a vector on the right

    def add(entries, value):
        row = torch.zeros(count, count, dtype=p.dtype)
        for (k, i), factor in entries.items():
            row[k, i] = factor
        equations.append(row.flatten())
        values.append(value)

    for i in range(count):
        add({(k, i): p[k] for k in range(count)}, p[i] * score[i])
        add({(i, i): p[i]}, p[i] * score[i] / 2)
        for j in range(i):
            add({(j, i): p[j], (i, j): p[i]}, torch.zeros_like(p))
    scale = p.sqrt().repeat_interleave(count)  # E|S' g|^2 is the norm of the scaled unknowns
    scaled = torch.linalg.pinv(torch.stack(equations) / scale, rtol=1e-10) @ torch.stack(values)
    expected = (scaled / scale[:, None]).view(count, count, count)
    torch.testing.assert_close(rows_of(p), expected, rtol=1e-8, atol=1e-9)
    assert power(rows_of(p), p) < 0.99 * power(reinmax_rows(p), p)


@pytest.mark.parametrize("slack", [0.05, 1.0])
def test_slack_has_the_least_sum_of_second_moment_and_squared_bias(slack):
    """No small change of S that keeps the mean on linear f makes it smaller."""
    p = probabilities()
    jacobian = p.diag() - torch.outer(p, p)

    def cost(rows):
        joint = p[:, None, None] * rows  # p_k m_ki
        error = joint + joint.transpose(0, 1) - torch.diag_embed(jacobian.T).movedim(0, -1)
        return (p * rows.square().sum((1, 2))).sum() + error.square().sum() / (2 * slack)

    rows = rows_of(p, slack).requires_grad_()
    torch.testing.assert_close((p[:, None, None] * rows).sum(0), jacobian, rtol=1e-10, atol=1e-12)
    (gradient,) = torch.autograd.grad(cost(rows), rows)
    # The part of the gradient along changes that keep sum_k p_k m_ki.
    along = gradient - p[:, None, None] * (p[:, None, None] * gradient).sum(0) / p.square().sum()
    assert float(gradient.norm()) > 0.01
    assert float(along.norm()) < 1e-10


def test_no_digits_are_lost_where_probabilities_are_small():
    """In single precision, at logits of 40 apart, against double precision; further apart it stays finite."""
    logits = torch.tensor([[0.0, -30.0, -12.0, 3.0], [0.0, 0.0, 0.0, -40.0]])
    for slack in (0.0, 0.1):
        hard = torch.eye(4)[:, None, :]
        single = surrogate_rows(logits.softmax(-1), hard, slack)
        double = surrogate_rows(logits.double().softmax(-1), hard.double(), slack)
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-5)
        assert surrogate_rows(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), hard, slack).isfinite().all()
