r"""Successive calls of an estimator: each draws its own noise, and no call remembers the one before.

In eval mode an estimator is a function of its state, the objective and torch's random state, to the last bit. In
training mode its state moves, so calls are compared as distributions: over many copies of the examples, the gradients
of one call must be uncorrelated with those of another. The mean over the copies of a call is subtracted first, because
a moving average shifts all of them alike.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from estbench.certify.check_result import CheckResult, decide, z_threshold
from estbench.certify.estimator_under_test import EstimatorUnderTest
from estbench.certify.problems.base import SmallProblem
from estbench.certify.sampling import Gradients, sample_gradients
from estbench.estimators import Estimator
from estbench.randomness import seeded

CPU = torch.device("cpu")
COPIES = 2_000
CALLS = 6  # in succession
LAGS = (1, 2, 3)
REPLICATES = 256
SEEDS = (6, 7, 6, 6, 7)


def check_own_noise(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that each replicate and each example of each call has its own noise, from torch's generator."""
    equal_params = {name: value[:1].expand_as(value) for name, value in problem.params.items()}
    equal_examples = dataclasses.replace(
        problem, params=equal_params, weights=problem.weights[:1].expand_as(problem.weights)
    )
    for plain in (False, True):
        for training in (False, True):
            estimator = tested.prepared(problem).train(training)
            first = _draw(estimator, equal_examples, 6, plain=plain)
            second = _draw(tested.prepared(problem).train(training), equal_examples, 7, plain=plain)
            replicates, examples = (
                all(torch.equal(g, g.narrow(axis, 0, 1).expand_as(g)) for g in first.values()) for axis in (0, 1)
            )
            same = _are_equal(first, second)
            mode = f"{'training' if training else 'eval'} mode, {'one plain batch' if plain else 'replicates'}"
            if not same and (replicates or examples):
                shared = " and ".join(
                    name for name, is_shared in (("replicates", replicates), ("examples", examples)) if is_shared
                )
                message = f"all {shared} of one call share their noise; draw it with shape (S, *batch_shape, ...)"
                return decide(False, mode, message)
            if same and not (replicates and examples):
                message = "two seeds give the same noise; draw it from torch's generator, and never seed or cache it"
                return decide(False, mode, message)
    evidence = f"{REPLICATES} replicates of equal examples differ, and two seeds" if not same else "it draws no noise"
    return decide(True, evidence)


def check_no_memory(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that in eval mode a seed always gives the same bits, and that the next call gives others."""
    for plain in (False, True):
        estimator = tested.prepared(problem)
        by_seed: dict[int, Gradients] = {}
        for seed in SEEDS:
            with seeded(seed, CPU):
                current = sample_gradients(estimator, problem, REPLICATES, plain=plain)
                following = sample_gradients(estimator, problem, REPLICATES, plain=plain)
            if not _are_equal(by_seed.setdefault(seed, current), current):
                message = "in eval mode the same seed gives another gradient after other calls; keep nothing of a call"
                return decide(False, "", message)
            varies = any(bool((g != g[:1]).any()) for g in current.values())
            if varies and _are_equal(current, following):
                return decide(False, "", "two successive calls give the same gradient; draw new noise in each call")
    return decide(True, f"{len(SEEDS)} calls under {len(set(SEEDS))} seeds")


def check_independent_calls(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that successive calls, calls under two seeds and neighbours in a batch are uncorrelated.

    Their absolute values must be uncorrelated, too.
    """
    coordinates = sum(leaf.numel() for each in tested.representatives for leaf in each.leaf_tensors().values())
    bound = z_threshold("independent calls", 4 * (len(LAGS) + 2) * coordinates)
    worst, where = 0.0, ""
    for training in (False, True):
        chains = []
        for seed in (23, 24):
            estimator = tested.prepared(problem).train(training)
            with seeded(seed, CPU):
                calls = [sample_gradients(estimator, problem, COPIES, plain=training) for _ in range(CALLS)]
            chains.append([_find_features(call) for call in calls])
        first, second = chains
        pairs = {f"calls {lag} apart": list(zip(first, first[lag:], strict=False)) for lag in LAGS}
        pairs["calls under two seeds"] = list(zip(first, second, strict=True))
        pairs["neighbours in a batch"] = [(call, call.roll(1, 0)) for call in first]
        for kind, each in pairs.items():
            z = _find_correlation(each)
            if z > worst:
                worst, where = z, f"{kind} ({'training' if training else 'eval'} mode)"
    return decide(
        worst <= bound,
        f"max |z| = {worst:.2f}, bound {bound:.2f}, n = {COPIES:,} copies of {CALLS} calls",
        f"the gradients of {where} depend on each other (z = {worst:.1f}); draw new noise for each example in each"
        " call, and keep nothing of it",
        worst / bound,
    )


def _draw(estimator: Estimator, problem: SmallProblem, seed: int, *, plain: bool) -> Gradients:
    with seeded(seed, CPU):
        return sample_gradients(estimator, problem, REPLICATES, plain=plain)


def _are_equal(first: Gradients, second: Gradients) -> bool:
    return all(torch.equal(first[group], second[group]) for group in first)


def _find_features(drawn: Gradients) -> Tensor:
    """Return bounded functions of each coordinate, (copies, F), of mean zero over the copies: its sign, its size."""
    flat = torch.cat([gradient.flatten(1) for gradient in drawn.values()], 1)
    centred = flat - flat.mean(0)
    spread = centred.std(0)
    # A coordinate that only varies by rounding has no feature.
    signed = torch.where(spread > 1e-9 * flat.abs().amax(0), centred / spread, 0.0).nan_to_num().tanh()
    both = torch.cat([signed, signed.abs()], 1)
    return both - both.mean(0)


def _find_correlation(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Return the largest |z| of the mean products of features.

    The error is the larger one of two: that of the products, and that of independent features. The products of rare
    events can vary too little if there are few of them.
    """
    products = torch.stack([first * second for first, second in pairs]).mean(0)
    independent = torch.stack([first.var(0) * second.var(0) for first, second in pairs]).mean(0) / len(pairs)
    error = (torch.maximum(products.var(0), independent) / len(products)).sqrt()
    return float(torch.where(error > 0, products.mean(0).abs() / error, 0.0).nan_to_num().max())
