"""Baselines: state from before the step, without bias at the start, learned without touching the model."""

from __future__ import annotations

import pytest
import torch

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.estimators._baselines import ExponentialMovingAverage, InputDependent

EMA = "reinforce[baseline=ema,decay=0.8]"
NVIL = "reinforce[baseline=nvil,hidden=5,decay=0.8]"


def score_gradient(problem, baseline, seed):
    """(f - baseline) d log q / d loc by hand, for one draw; and f itself."""
    torch.manual_seed(seed)
    leaves = {name: leaf.detach() for name, leaf in problem.leaves(2).items()}
    objective = problem.objective(leaves)
    z = objective.q.sample((1,))
    f = objective.f(z)
    loc, log_scale, _ = leaves.values()
    return ((f - baseline)[..., None] * (z - loc) / (2 * log_scale).exp()).mean(0).squeeze(-1), f


def test_a_moving_average_subtracts_the_past_and_never_the_present(toy):
    """Step t uses c_{t-1} = sum_{i<t} a^{t-1-i} fbar_i / sum_{i<t} a^{t-1-i}, and the first step uses zero."""
    problem = toy("quadratic", "none")
    estimator = estimators.create(EMA)
    means = []
    for step in range(6):
        weights = [0.8 ** (len(means) - 1 - index) for index in range(len(means))]
        past = sum(w * mean for w, mean in zip(weights, means, strict=True)) / sum(weights) if means else 0.0
        expected, f = score_gradient(problem, past, seed=step)
        torch.manual_seed(step)
        found = problem.gradients(estimator, 2)[:, 0]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        means.append(float(f.mean()))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_a_moving_average_of_a_constant_is_that_constant_from_the_first_step_on(decay, toy):
    problem = toy()
    objective = problem.objective(problem.leaves())
    average = ExponentialMovingAverage(decay)
    assert float(average(objective)) == 0.0
    for _ in range(5):
        average.update(torch.full((2, 3), 7.0))
        assert float(average(objective)) == pytest.approx(7.0, rel=1e-12)


def test_a_moving_average_is_kept_in_double_precision_and_given_in_the_model_s(toy):
    average = ExponentialMovingAverage(0.9)
    average.update(torch.full((1, 4), 1 / 3))
    assert average.mean.dtype == torch.float64
    problem = toy()
    single = {name: leaf.detach().float() for name, leaf in problem.leaves().items()}
    assert average(problem.objective(single)).dtype == torch.float32


def test_the_network_is_built_for_the_input_when_it_is_prepared(toy):
    problem = toy()
    estimator = estimators.create(NVIL)
    assert not list(estimator.parameters())
    objective = problem.objective(problem.leaves())
    estimator.prepare(objective)
    first, activation, second = estimator.baseline.network
    assert (first.in_features, first.out_features) == (objective.context.shape[-1], 5)
    assert (second.in_features, second.out_features) == (5, 1)
    assert isinstance(activation, torch.nn.Tanh)
    assert {parameter.dtype for parameter in estimator.parameters()} == {objective.context.dtype}
    assert objective.evaluations == 0


def test_the_network_ascends_half_the_squared_error_with_its_minus_sign(toy):
    """Its gradient of the surrogate is that of -(f - c_{t-1} - b(x))^2 / 2, and nothing else."""
    problem = toy("quadratic", "none")
    estimator = problem.prepared(NVIL).train()
    baseline = estimator.baseline
    learned = list(baseline.network.parameters())
    leaves = problem.leaves(2)
    torch.manual_seed(1)
    with torch.no_grad():
        f = problem.objective(leaves).f(problem.objective(leaves).q.sample((1,)))
        past = baseline.average(problem.objective(leaves))
    residual = f - past - baseline.network(problem.objective(leaves).context).squeeze(-1)
    expected = torch.autograd.grad((-0.5 * residual.square()).sum(), learned)
    torch.manual_seed(1)
    found = torch.autograd.grad(estimator(problem.objective(leaves)).sum(), learned)
    for first, second in zip(found, expected, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


def test_the_network_learns_what_f_is_for_each_input(toy):
    """Trained by the surrogate alone, it takes away nearly all of what differs between examples.

    f is a quadratic at q's nearly certain mean, so it is a known number for each example: 16, 0.81 and 2.25.
    """
    rows = [(1.0, 1e-3, -3.0), (1.0, 1.1e-3, 0.1), (-0.5, 0.9e-3, 1.0)]
    problem = toy("quadratic", "none", rows)
    estimator = problem.prepared("reinforce[baseline=nvil,hidden=20,decay=0.9]", steps=0).train()
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.02, maximize=True)
    torch.manual_seed(2)
    for _ in range(400):
        optimizer.zero_grad()
        estimator(problem.objective(problem.leaves())).mean().backward()
        optimizer.step()
    with torch.no_grad():
        predicted = estimator.baseline(problem.objective(problem.leaves()))
    torch.testing.assert_close(predicted, torch.tensor([16.0, 0.81, 2.25]).double(), rtol=0, atol=0.2)


def test_a_learned_baseline_without_an_input_says_what_to_do(toy):
    problem = toy()
    objective = problem.objective(problem.leaves())
    objective.context = None
    with pytest.raises(EstbenchError, match=r"baseline=nvil.*choose another baseline"):
        InputDependent(0.9, 5).prepare(objective)


@pytest.mark.parametrize("variant", [EMA, NVIL])
def test_state_moves_in_training_mode_alone(variant, toy):
    problem = toy()
    estimator = problem.prepared(variant)

    def buffers():
        return [buffer.clone() for buffer in estimator.buffers()]

    before = buffers()
    assert len(before) == 2
    problem.gradients(estimator.eval(), 2)
    assert all(map(torch.equal, before, buffers()))
    problem.gradients(estimator.train(), 2)
    assert not any(map(torch.equal, before, buffers()))
