"""Bayesian logistic regression: the exact bound, and minibatches as examples that average to it."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import log_expit
from torch.distributions import Independent, Normal, kl_divergence

from estbench import estimators, measure, problems
from estbench.datasets import tabular
from estbench.datasets.files import DataFile, known_files
from estbench.errors import EstbenchError
from estbench.problems.logistic_regression import _expected_log_sigmoid


@pytest.fixture
def problem():
    """At a q that is nowhere special."""
    problem = problems.create("logistic_regression[minibatch=40]").double()
    torch.manual_seed(1)
    problem.loc.data.normal_(0, 0.5)
    problem.log_scale.data.normal_(-1, 0.3)
    return problem


def windows(problem, count=None):
    return torch.from_numpy(problem.data.train[:count])


@pytest.mark.parametrize("deviation", [0.0, 0.3, 3.0, 30.0, 60.0])
@pytest.mark.parametrize("mean", [-40.0, -1.0, 0.0, 7.0])
def test_the_quadrature_is_exact_to_rounding(mean, deviation):
    found = _expected_log_sigmoid(*torch.tensor([[mean], [deviation]], dtype=torch.float64))
    kink = [-mean / deviation] if deviation and abs(mean) < 9 * deviation else None
    expected, _ = integrate.quad(
        lambda e: stats.norm.pdf(e) * log_expit(mean + deviation * e),
        -12,
        12,
        points=kink,
        limit=2000,
        epsabs=1e-13,
        epsrel=1e-13,
    )
    assert float(found) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_f_is_the_scaled_log_likelihood_of_the_minibatch(problem):
    x = windows(problem, 3)
    objective = problem(x)
    w = objective.q.sample((5,))
    table = tabular.load_table("breast_cancer")
    for b in range(3):
        rows = problem.data.train[b].astype(int)
        logits = w[:, b] @ torch.from_numpy(table.features[rows]).double().T
        labels = torch.from_numpy(table.labels[rows]).double()
        expected = torch.distributions.Bernoulli(logits=logits).log_prob(labels.expand_as(logits)).sum(-1) * 569 / 40
        torch.testing.assert_close(objective.f(w)[:, b], expected, rtol=1e-10, atol=1e-10)


def test_the_kl_is_to_a_standard_normal(problem):
    objective = problem(windows(problem, 3))
    standard = Independent(Normal(torch.zeros(31).double(), torch.ones(31).double()), 1)
    torch.testing.assert_close(objective.kl(), kl_divergence(objective.q, standard), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_minibatches_average_to_the_whole(problem):
    """Value and gradient: over all windows the mean of L_b is L, because each row is in equally many of them."""
    parts, whole = problem(windows(problem)).exact(), problem(torch.from_numpy(problem.data.test)).exact()
    assert whole.shape == (1,)
    torch.testing.assert_close(parts.mean(), whole[0], rtol=1e-11, atol=1e-9)
    weights = [problem.loc, problem.log_scale]
    pairs = (torch.autograd.grad(value.mean(), weights) for value in (parts, whole))
    for first, second in zip(*pairs, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variant", ["reparam", "rloo[num_samples=4]"])
def test_estimates_average_to_the_exact_gradient(problem, variant, largest_z):
    """z-test per coordinate of loc and log_scale, on two minibatches; 4,000 replicates."""
    n = 4000
    x = windows(problem, 2)
    with torch.no_grad():
        values = problem.encode(x)
    exact = {name: value.clone().requires_grad_() for name, value in values.items()}
    truth = torch.autograd.grad(problem.objective(exact, x).exact().sum(), list(exact.values()))
    params = {name: value.expand(n, -1, -1).clone().requires_grad_() for name, value in values.items()}
    torch.manual_seed(2)
    found = torch.autograd.grad(estimators.create(variant)(problem.objective(params, x)).sum(), list(params.values()))
    for gradient, expected in zip(found, truth, strict=True):
        z = (gradient.mean(0) - expected) / (gradient.std(0) / math.sqrt(n))
        assert float(z.abs().max()) < largest_z(tests=4 * 31)


def test_an_exact_gradient_may_be_taken_for_replicates_too(problem):
    x = windows(problem, 2)
    params = {name: value.expand(3, -1, -1) for name, value in problem.encode(x).items()}
    torch.testing.assert_close(problem.objective(params, x).exact(), problem(x).exact().expand(3, 2))


def test_the_test_curve_is_the_bound_of_all_data(problem):
    """Within four standard errors, from 4,000 draws."""
    x = torch.from_numpy(problem.data.test)
    found = measure.evaluate_elbo(problem, x, 4000, seed=0).elbo
    objective = problem(x)
    with torch.no_grad():
        error = float(objective.log_weight(objective.q.sample((2000,))).std()) / math.sqrt(4000)
    assert abs(found - float(objective.exact().detach())) < 4 * error


def test_windows_hold_each_row_equally_often(problem):
    assert problem.data.train.shape == (569, 40)
    assert np.array_equal(np.bincount(problem.data.train.astype(int).ravel()), np.full(569, 40))
    assert np.array_equal(problem.data.test[0], np.arange(569))
    assert all(len(set(window)) == 40 for window in problem.data.train)


def test_a_minibatch_larger_than_the_data_is_all_of_it():
    assert problems.create("logistic_regression[minibatch=5000]").data.train.shape == (569, 569)


def test_features_are_standardised_and_have_a_column_of_ones():
    table = tabular.load_table("breast_cancer")
    assert table.features.shape == (569, 31)
    np.testing.assert_allclose(table.features[:, :-1].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(table.features[:, :-1].std(0), 1, atol=1e-5)
    assert (table.features[:, -1] == 1).all()
    assert table.labels.sum() == 357


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there is no uci/german"), (b"1 2 3\n", "is not the file of uci")]
)
def test_german_credit_is_checked(monkeypatch, tmp_path, content, said):
    monkeypatch.setenv("ESTBENCH_DATA_DIR", str(tmp_path))
    tabular.load_table.cache_clear()
    if content is not None:
        (tmp_path / "uci").mkdir()
        (tmp_path / tabular.GERMAN_CREDIT).write_bytes(content)
    with pytest.raises(EstbenchError, match=said):
        problems.create("logistic_regression[dataset=german_credit]")


def test_german_credit_is_read_from_a_file_of_its_form(monkeypatch, tmp_path):
    """A file of five rows and two features in the place of the real one."""
    content = b"  1  6  1 \n  2 48  2 \n  4 12  1 \n  1 42  1 \n  1 24  2 \n"
    monkeypatch.setenv("ESTBENCH_DATA_DIR", str(tmp_path))
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    monkeypatch.setitem(known_files(), tabular.GERMAN_CREDIT, DataFile(tabular.GERMAN_CREDIT, digest, ()))
    (tmp_path / "uci").mkdir()
    (tmp_path / tabular.GERMAN_CREDIT).write_bytes(content)
    tabular.load_table.cache_clear()
    table = tabular.load_table("german_credit")
    tabular.load_table.cache_clear()
    assert table.features.shape == (5, 3)
    assert table.labels.tolist() == [1, 0, 1, 1, 0]


@pytest.mark.skipif(
    not (Path(os.environ.get("ESTBENCH_DATA_DIR", "")) / tabular.GERMAN_CREDIT).is_file(),
    reason="the real German credit file is not in ESTBENCH_DATA_DIR",
)
def test_the_real_german_credit():
    tabular.load_table.cache_clear()
    problem = problems.create("logistic_regression[dataset=german_credit]")
    assert problem.features.shape == (1000, 25)
    assert int((problem.signs == 1).sum()) == 700
