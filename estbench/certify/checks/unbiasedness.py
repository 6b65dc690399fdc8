r"""Tests whether the mean of the estimates is the exact gradient: a z-test for every coordinate, with stated power.

With n independent replicates, z_i = sqrt(n) (mean_i - exact_i) / sd_i is standard normal for an unbiased estimator.
Coordinates are tested one by one, with a threshold that bounds the probability of any false alarm among all of them
(Bonferroni). A signed sum over coordinates would let opposite biases cancel.

The threshold c and n determine the power: a bias of (c + z_0.99) sd_i / sqrt(n) in coordinate i is detected with
probability 0.99. Draws are added until this bias is at most a given share of the gradient's norm. How many that takes
depends only on the variance and never on the mean, so that several looks cause no false alarm; only a mean that is
wrong beyond any doubt ends a test early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats

from estbench.certify.check_result import CheckResult, decide, describe_deviation, not_applicable, z_threshold
from estbench.certify.checks.exact_mean import check_exact_mean
from estbench.certify.estimator_under_test import EstimatorUnderTest
from estbench.certify.problems.base import EXAMPLES, SmallProblem
from estbench.certify.record import CheckOutcome
from estbench.certify.sampling import (
    Gradients,
    RunningMoments,
    Sampler,
    draw_until,
    sample_as_in_training,
    sample_gradients,
)
from estbench.estimators import Estimator
from estbench.randomness import seeded

POWER = 0.99
MIN_DETECTABLE_BIAS = 0.02  # of the gradient's norm; ``SmallProblem.detectable`` may differ
FIRST_DRAWS = 10_000
# A larger |z| after the first draws ends the test: by chance, that is one case in 10^21 or fewer.
GROSS = 10.0
MAX_DRAWS = 5_000_000
SINGLE_EXAMPLES = 300  # calls with one example each
ROUNDING = 1e-12
SINGLE_PRECISION = 1e-5  # allowed error in single precision, of the gradient's norm
CHECK = "unbiased"


@dataclass(frozen=True)
class BiasTest:
    """The z-test of one group of gradients on one problem."""

    problem: str
    group: str
    replicates: int
    z: float  # the largest |z| of a coordinate
    threshold: float
    coordinate: tuple[int, ...]  # the one with the largest |z|: (example, latent, ...)
    expected: float
    measured: float
    bias: float  # |mean - exact| / |exact|, over the group
    detectable: float  # the bias of one coordinate, relative to |exact|, that is detected with probability ``POWER``
    message: str  # where the mean differs, and the usual causes

    @property
    def unbiased(self) -> bool:
        """Whether no coordinate exceeds the threshold."""
        return self.z <= self.threshold


def run_bias_tests(
    estimator: Estimator,
    problem: SmallProblem,
    coordinates: int,
    seed: int = 0,
    most: int = MAX_DRAWS,
    *,
    sampler: Sampler = sample_gradients,
    check: str = CHECK,
    to_the_end: bool = True,
) -> list[BiasTest]:
    """Test the mean gradient of each group on a problem, and return one test a group.

    ``coordinates`` is the number of coordinates that share the false-alarm rate of ``check``. The estimator is measured
    in the mode and state that it has, with at most ``most`` draws; unless ``to_the_end``, with no more than it takes to
    see beyond any doubt that a mean is wrong.
    """
    bound = z_threshold(check, coordinates)
    reach = bound + float(stats.norm.ppf(POWER))
    accuracy = problem.accuracy + (0.0 if sampler is sample_gradients else SINGLE_PRECISION)
    moments = RunningMoments()
    needed = min(FIRST_DRAWS, most)
    exact = problem.exact_gradient()

    def find_z(group: str) -> torch.Tensor:
        # An estimator without noise still has rounding; and the error of an inexact sampler is not a bias.
        scale, mean = problem.gradient_norm(group), moments.mean[group]
        excess = ((mean - exact[group]).abs() - accuracy * scale).clamp(min=0)
        return excess / moments.error[group].clamp(min=ROUNDING * scale)

    with seeded(seed, problem.weights.device):
        while moments.count < needed:
            draw_until(needed, moments, estimator, problem, sampler)
            if not to_the_end and any(float(find_z(group).max()) > max(GROSS, bound) for group in exact):
                break
            shares = (reach * error.max() / problem.gradient_norm(group) for group, error in moments.error.items())
            ratio = float(max(shares)) / problem.detectable
            if ratio > 1:
                needed = min(most, math.ceil(1.05 * moments.count * ratio**2))
    tests = []
    for group, error in moments.error.items():
        scale, mean, z = problem.gradient_norm(group), moments.mean[group], find_z(group)
        worst = int(z.argmax())
        tests.append(
            BiasTest(
                problem=problem.name,
                group=group,
                replicates=moments.count,
                z=float(z.max()),
                threshold=bound,
                coordinate=tuple(int(index) for index in torch.unravel_index(torch.tensor(worst), z.shape)),
                expected=float(exact[group].flatten()[worst]),
                measured=float(mean.flatten()[worst]),
                bias=float((mean - exact[group]).norm() / scale),
                detectable=float(reach * error.max() / scale) + accuracy,
                message=describe_deviation(group, mean, exact[group], worst, f"z = {float(z.max()):.1f}"),
            )
        )
    return tests


def check_unbiased(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Test the mean gradient as in training: plain batches, single precision, training mode.

    Few draws are enough if the mean is known by enumeration and another problem of the kind has the whole test.
    """
    estimator = tested.prepared(problem, torch.float32).train()
    fully_tested = problem.examples > EXAMPLES or tested.is_representative(problem)
    if not fully_tested and check_exact_mean(tested, problem).outcome is CheckOutcome.PASSED:
        few = run_bias_tests(estimator, problem, tested.coordinates, most=FIRST_DRAWS, sampler=sample_as_in_training)
        return _summarise(few)
    tests = run_bias_tests(estimator, problem, tested.coordinates, sampler=sample_as_in_training, to_the_end=False)
    result = _summarise(tests)
    detectable = result.numbers["detectable"]
    if result.outcome is CheckOutcome.PASSED and detectable > problem.detectable + problem.accuracy + SINGLE_PRECISION:
        message = (
            f"after {result.numbers['n']:,.0f} draws, a bias below {detectable:.1%} of the gradient could go unseen"
        )
        return result._replace(outcome=CheckOutcome.INCONCLUSIVE, message=message)
    return result


def check_in_a_probe(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Test the mean gradient as in a probe: replicates, double precision, eval mode; with few draws.

    If the estimator declares a bias, its mean is compared with the mean as in training.
    """
    check = "as in a probe"
    estimator = tested.prepared(problem)
    if tested.facts.unbiased:
        return _summarise(run_bias_tests(estimator, problem, tested.coordinates, most=FIRST_DRAWS, check=check))
    moments = RunningMoments(), RunningMoments()
    with seeded(21, torch.device("cpu")):
        draw_until(FIRST_DRAWS, moments[0], estimator, problem)
        draw_until(FIRST_DRAWS, moments[1], tested.prepared(problem, torch.float32), problem, sample_as_in_training)
    bound = z_threshold(check, tested.coordinates)
    return compare_means(*moments, problem, bound, "in single precision and plain batches")


def check_one_by_one(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Test the mean gradient of batches of one example, in successive calls."""
    if not tested.facts.unbiased:
        return not_applicable("it declares a bias")
    estimator = tested.prepared(problem, torch.float32).train()
    one_example = problem.select([0])
    coordinates = sum(
        leaf.numel() for each in tested.representatives for leaf in each.select([0]).leaf_tensors().values()
    )

    def draw_successively(estimator: Estimator, problem: SmallProblem, count: int) -> Gradients:
        calls = [sample_as_in_training(estimator, problem, 1) for _ in range(count)]
        return {name: torch.cat([call[name] for call in calls]) for name in calls[0]}

    return _summarise(
        run_bias_tests(
            estimator,
            one_example,
            coordinates,
            most=SINGLE_EXAMPLES,
            sampler=draw_successively,
            check="one example at a time",
            seed=22,
        )
    )


def compare_means(
    first: RunningMoments, second: RunningMoments, problem: SmallProblem, bound: float, where: str
) -> CheckResult:
    """Test whether two kinds of draws have the same mean, coordinate by coordinate; ``where`` describes the second."""
    z, reach = 0.0, 0.0
    for group, mean in first.mean.items():
        scale = max(problem.gradient_norm(group), float(mean.norm()))
        error = (first.error[group].square() + second.error[group].square()).sqrt().clamp(min=ROUNDING * scale)
        excess = ((mean - second.mean[group]).abs() - SINGLE_PRECISION * scale).clamp(min=0)
        z = max(z, float((excess / error).max()))
        reach = max(reach, float(error.max()) / scale * (bound + float(stats.norm.ppf(POWER))))
    return decide(
        z <= bound,
        f"max |z| = {z:.2f}, bound {bound:.2f}, n = {second.count:,}; a difference of {reach:.1%} would show",
        f"the mean gradient differs {where} (z = {z:.1f}); treat every shape and precision alike",
        z / bound,
    )


def _summarise(tests: list[BiasTest]) -> CheckResult:
    worst = max(tests, key=lambda test: test.z)
    detectable = max(test.detectable for test in tests)
    evidence = (
        f"max |z| = {worst.z:.2f}, bound {worst.threshold:.2f}, n = {worst.replicates:,};"
        f" a bias of {detectable:.1%} of the gradient would show"
    )
    numbers = {
        "z": worst.z,
        "bound": worst.threshold,
        "n": worst.replicates,
        "detectable": detectable,
        "bias": max(test.bias for test in tests),
    }
    return decide(worst.unbiased, evidence, worst.message, worst.z / worst.threshold, **numbers)
