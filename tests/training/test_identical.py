"""Identical VAEs: nothing differs but the estimator, and watching changes nothing."""

from __future__ import annotations

import pytest
import torch

from estbench.training import take_steps

ESTIMATORS = ["reparam", "detached", "reinforce", "reinforce[baseline=nvil]", "rloo[num_samples=3]"]


# Runs of which not the whole length matters.
SHORT = {"training__steps": 5, "evaluation__every": 5, "probe__replicates": 0}


def minibatches(state, steps: int):
    seen = []
    state.problem.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    take_steps(state, steps)
    return torch.stack(seen)


def test_estimators_of_one_seed_start_from_the_same_bits(train_cell):
    records = [train_cell(estimator, **SHORT).record for estimator in ESTIMATORS]
    assert len({record["fingerprints"]["initial_weights"] for record in records}) == 1
    assert len({record["fingerprints"]["final_weights"] for record in records}) == len(records)


def test_estimators_of_one_seed_see_the_same_minibatches(make_state):
    first, *others = (minibatches(make_state(estimator), steps=100) for estimator in ESTIMATORS)
    assert first.shape == (100, 16, 64)
    assert all(torch.equal(first, other) for other in others)


def test_seeds_differ_in_weights_and_minibatches(make_state, train_cell):
    assert not torch.equal(*(minibatches(make_state(seeds=[seed]), steps=5) for seed in (0, 1)))
    weights = [train_cell(seeds=[seed], **SHORT).record["fingerprints"]["initial_weights"] for seed in (0, 1)]
    assert weights[0] != weights[1]


def test_estimators_have_noise_of_their_own(train_cell):
    noise = {}
    for estimator in ESTIMATORS:
        told = {"on_step": lambda _step, name=estimator: noise.update({name: torch.initial_seed()})}
        train_cell(estimator, options=told, **SHORT)
    assert len(set(noise.values())) == len(ESTIMATORS)


@pytest.mark.parametrize("estimator", ["reparam", "reinforce[baseline=nvil]"])
def test_a_cell_computed_twice_is_the_same_and_leaves_torchs_randomness_alone(train_cell, estimator):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = train_cell(estimator, name="first")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert train_cell(estimator, name="second").bits == first.bits


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("estimator", ["reparam", "reinforce[baseline=ema]", "reinforce[baseline=nvil]"])
def test_measuring_leaves_training_bit_identical(train_cell, estimator):
    """The last weights, with the probe on and off and with bounds at different places and of different sizes."""
    watched = [
        {},
        {"probe__replicates": 0},
        {"probe__points": 7, "probe__replicates": 5},
        {"evaluation__every": 7},
        {"evaluation__every": 1000, "evaluation__num_samples": 5, "evaluation__examples": 3},
        {"evaluation__final_num_samples": 4},
    ]
    weights = [train_cell(estimator, **changes).record["fingerprints"]["final_weights"] for changes in watched]
    assert len(set(weights)) == 1


def test_bounds_at_step_zero_are_the_same_for_all_estimators(train_cell):
    first, *others = (
        train_cell(estimator, **SHORT).curves.query("step == 0")["value"].tolist() for estimator in ESTIMATORS
    )
    assert len(first) == 15  # five metrics of three splits
    assert all(first == other for other in others)
