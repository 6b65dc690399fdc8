"""The joint control variate: what its table holds, what it takes away, and that all the data keep their gradient."""

from __future__ import annotations

import pytest
import torch

from estbench import estimators, measure, problems
from estbench.errors import EstbenchError
from estbench.problems import DataIndex

VARIANTS = ("joint-cv", "joint-cv[removes=noise]", "joint-cv[removes=data]")
ROWS = 569


@pytest.fixture(scope="module")
def regression():
    """At a q that is nowhere special, and wide enough for f to be far from linear."""
    problem = problems.create("logistic_regression").double()
    torch.manual_seed(0)
    problem.loc.data.normal_(0, 0.3)
    problem.log_scale.data.normal_(-1.5, 0.3)
    return problem


@pytest.fixture(scope="module")
def windows(regression):
    return torch.from_numpy(regression.data.train).double()


def prepared(variant, problem, x):
    return estimators.make_ready(estimators.create(variant), problem(x))


def swept(variant, problem, windows):
    """An estimator that has seen every window once, at one q, and is frozen."""
    estimator = prepared(variant, problem, windows[:2]).train()
    for start in range(0, ROWS, 64):
        estimator(problem(windows[start : start + 64]))
    return estimator.eval()


@pytest.fixture(scope="module")
def tables(regression, windows):
    return {variant: swept(variant, regression, windows) for variant in VARIANTS}


def gradient(estimator, problem, x, seed=0):
    torch.manual_seed(seed)
    return torch.cat(torch.autograd.grad(estimator(problem(x)).mean(), list(problem.parameters())))


def test_a_window_is_known_by_its_first_row(regression, windows):
    index = regression(windows).data_index
    assert index.count == ROWS
    assert sorted(index.index.tolist()) == list(range(ROWS))
    everything = torch.from_numpy(regression.data.test).double()
    assert regression(everything).data_index is None
    assert problems.create("gaussian_toy")(torch.zeros(2, 1)).data_index is None


def test_the_table_holds_gradients_and_hessians(regression, windows, tables):
    """By hand: f_n has the gradient c sum sigmoid(-a) x y, and the Hessian -c sum sigmoid(a) sigmoid(-a) x x'."""
    estimator, x = tables["joint-cv"], windows[5:6]
    row = int(regression(x).data_index.index)
    rows = x[0].long()
    signed = regression.signs[rows, None] * regression.features[rows]
    loc = regression.loc.detach()
    a = signed @ loc
    factor = ROWS / len(rows)
    hessian = -factor * (signed.T * (a.sigmoid() * (-a).sigmoid())) @ signed
    slope = factor * signed.T @ (-a).sigmoid() - hessian @ loc
    torch.testing.assert_close(estimator.curvatures[row], hessian, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(estimator.slopes[row], slope, rtol=1e-8, atol=1e-8)


def test_over_all_windows_what_is_added_for_the_data_cancels(regression, windows, tables):
    """Under the same noise the mean over all of them is that of the pathwise gradient, to rounding."""
    found = gradient(tables["joint-cv[removes=data]"], regression, windows)
    expected = gradient(estimators.create("reparam"), regression, windows)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_of_both_kinds_too_because_it_differs_from_that_by_the_noise_alone(regression, windows, tables):
    """both - data = E h_n - h_n(z), whose mean over the draws is zero: a z-test of 62 coordinates with 200 draws."""
    differences = torch.stack(
        [
            gradient(tables["joint-cv"], regression, windows[:40], seed)
            - gradient(tables["joint-cv[removes=data]"], regression, windows[:40], seed)
            for seed in range(200)
        ]
    )
    score = differences.mean(0) / differences.std(0) * 200**0.5
    assert float(score.abs().max()) < 5.2  # 62 values of t with 199 degrees of freedom: false alarm 3e-5


def statistics(problem, estimator, x):
    table = measure.probe(problem, estimator, x, replicates=30, seed=1).table
    table = table[table["space"] == "weights"].set_index("statistic")["value"]
    return float(table["variance"]), float(table["data_variance"])


def test_each_takes_away_its_own_kind_of_noise(regression, windows, tables):
    """On 16 windows: a fifth of the noise of the draws, or of the minibatches, or of both is left at most."""
    x = windows[::36]
    noise, data = statistics(regression, estimators.create("reparam"), x)
    left = {variant: statistics(regression, estimator, x) for variant, estimator in tables.items()}
    shares = {variant: (n / noise, d / data) for variant, (n, d) in left.items()}
    assert shares["joint-cv"][0] < 0.2
    assert shares["joint-cv"][1] < 0.2
    assert shares["joint-cv[removes=noise]"][0] < 0.2
    assert 0.8 < shares["joint-cv[removes=noise]"][1] < 1.25
    assert 0.99 < shares["joint-cv[removes=data]"][0] < 1.01
    assert shares["joint-cv[removes=data]"][1] < 0.2


@pytest.mark.parametrize("variant", ["joint-cv", "joint-cv[removes=data]"])
def test_an_empty_table_changes_nothing_and_is_read_before_it_is_written(variant, regression, windows):
    estimator = prepared(variant, regression, windows[:2]).train()
    first = gradient(estimator, regression, windows[:5])
    torch.testing.assert_close(first, gradient(estimators.create("reparam"), regression, windows[:5]))
    assert int(estimator.slopes.any(-1).sum()) == 5
    second = gradient(estimator, regression, windows[:5])
    assert not torch.allclose(first, second)


def test_in_eval_mode_the_table_stays_and_f_is_not_expanded(regression, windows, tables):
    estimator = tables["joint-cv"]
    before = estimator.slopes.clone()
    objective = regression(windows[:7])
    estimator(objective)
    assert torch.equal(before, estimator.slopes)
    assert objective.evaluations == 7 == 7 * estimator.count_evaluations(objective)
    training = prepared("joint-cv", regression, windows[:2]).train()
    objective = regression(windows[:7])
    training(objective)
    assert objective.evaluations == 14 == 7 * training.count_evaluations(objective)


def test_a_table_that_was_never_made_is_one_clear_error(regression, windows):
    with pytest.raises(EstbenchError, match=r"joint-cv has no table yet; call estimator.prepare"):
        estimators.create("joint-cv")(regression(windows[:2]))


def test_where_q_differs_from_example_to_example_data_is_reparam():
    problem = problems.create("vae[dataset=digits,hidden=[4],latent_size=2]").double()
    x = torch.from_numpy(problem.data.train[:4]).double()
    pair = []
    for variant in ("joint-cv[removes=data]", "reparam"):
        estimator = prepared(variant, problem, x)
        torch.manual_seed(0)
        pair.append(torch.autograd.grad(estimator(problem(x)).sum(), problem.encoder.parameters()))
    for found, expected in zip(*pair, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_index_is_plain_data():
    index = DataIndex(torch.tensor([3, 1]), 5)
    assert (index.index.tolist(), index.count) == ([3, 1], 5)
