"""Checks of the facts that an estimator declares."""

from __future__ import annotations

import dataclasses

from estbench.certify.check_result import CheckResult, decide
from estbench.certify.checks.exact_mean import compare_mean, enumerate_moments
from estbench.certify.checks.unbiasedness import MIN_DETECTABLE_BIAS, run_bias_tests
from estbench.certify.estimator_under_test import EstimatorUnderTest
from estbench.certify.problems import small_problems_for
from estbench.certify.problems.base import SmallProblem
from estbench.certify.record import CheckOutcome
from estbench.certify.sampling import Gradients, relative_difference, sample_gradients
from estbench.estimators.requirements import ANY, REPARAMETERIZED, families
from estbench.randomness import seeded

REPLICATES = 5
SEEDS = 12
ROUNDING = 1e-10  # of the gradient's norm
# Draws of the first look at a declared bias: usually enough to see it.
FIRST_DRAWS = 100_000


def check_supports(tested: EstimatorUnderTest) -> CheckResult:
    """Check that there is a small problem for all latents and objectives that it declares."""
    facts = tested.facts
    pairs = [(latents, bound) for latents in sorted(families(facts.supports)) for bound in sorted(facts.bounds)]
    # An estimator that requires no family is checked on the families that there are.
    by_name = sorted(facts.supports - {ANY, REPARAMETERIZED})
    named = [(latents, bound) for latents in by_name for bound in sorted(facts.bounds)]
    missing = [f"{latents} ({bound})" for latents, bound in named if not small_problems_for({latents}, {bound})]
    if missing:
        message = f"no small problem with exact gradients for {', '.join(missing)}: nothing is proved for these"
        return CheckResult(CheckOutcome.INCONCLUSIVE, f"{len(tested.problems)} problems", message)
    listed = ", ".join(f"{latents} ({bound})" for latents, bound in pairs if small_problems_for({latents}, {bound}))
    return decide(True, f"{listed}: {len(tested.problems)} problems")


def check_evaluations(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that f is called as often as declared, in training and in a probe."""
    estimator = tested.prepared(problem)
    counts = []
    for training in (False, True):
        for replicates in ((), (REPLICATES,)):
            objective = problem.objective(problem.leaf_tensors(*replicates))
            declared = estimator.count_evaluations(objective)
            with seeded(2, problem.weights.device):
                estimator.train(training)(objective)
            counts.append(objective.evaluations / objective.batch_shape.numel())
    wrong = [count for count in counts if count != declared]
    return decide(
        not wrong,
        f"{declared} calls of f per example and step",
        f"declared evaluations = {declared}, made {wrong[0] if wrong else declared:g} per example and step:"
        " count each sample of each example that f is called for, also those of a control variate",
        declared=declared,
    )


def check_differentiable_f(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that it needs the derivative of f with respect to z if and only if it declares so."""
    needs = tested.facts.needs_differentiable_f
    cut = dataclasses.replace(problem, integrand=lambda z, w: problem.integrand(z.detach(), w))
    # Under several seeds if it needs the derivative: a random choice may decide whether it is used.
    whole = [_draw(tested, problem, seed) for seed in range(SEEDS if needs else 1)]
    try:
        same = all(
            relative_difference(drawn, _draw(tested, cut, seed), problem) <= ROUNDING
            for seed, drawn in enumerate(whole)
        )
    except RuntimeError:  # from autograd: the estimator asks for the derivative that was cut
        same = False
    declared = "needs the" if needs else "does not need the"
    return decide(
        same != needs,
        f"{declared} derivative of f with respect to z: the gradient {'is the same' if same else 'changes'} without it",
        f"declared needs_differentiable_f = {needs}, but with the derivative of f with respect to z cut the gradient"
        f" {'is the same' if same else 'changes, or fails'}; declare {not needs}, unless the mean is wrong, too",
    )


def check_declared_bias(tested: EstimatorUnderTest) -> CheckResult:
    """Check that a declared bias shows on some problem, and measure it.

    If the noise can be enumerated, the bias is known exactly. Otherwise it is sampled, at first with few draws.
    """
    biases: list[tuple[float, str, str]] = []  # size, name of the problem, how it was measured
    unseen = []
    for problem in tested.problems:
        estimator = tested.prepared(problem)
        moments = enumerate_moments(estimator, problem)
        if moments is not None:
            if compare_mean(moments.mean, problem, "").outcome is CheckOutcome.FAILED:
                exact = problem.exact_gradient()
                size = max(float((moments.mean[g] - exact[g]).norm()) / problem.gradient_norm(g) for g in exact)
                biases.append((size, problem.name, f"enumerated over {moments.tuples:,} tuples of draws"))
            continue
        tests = run_bias_tests(estimator, problem, tested.coordinates, most=FIRST_DRAWS)
        if all(test.unbiased for test in tests):
            unseen.append(problem)
        biases += [
            (test.bias, problem.name, f"z = {test.z:.1f}, bound {test.threshold:.2f}, n = {test.replicates:,}")
            for test in tests
            if not test.unbiased
        ]
    if not biases:
        for problem in unseen:
            tests = run_bias_tests(tested.prepared(problem), problem, tested.coordinates)
            biases += [(test.bias, problem.name, f"z = {test.z:.1f}") for test in tests if not test.unbiased]
    if not biases:
        message = f"declared unbiased = False, but no bias above {MIN_DETECTABLE_BIAS:.0%} was found; declare True"
        return decide(False, f"{len(tested.problems)} problems", message)
    size, where, evidence = max(biases)
    count = len({name for _, name, _ in biases})
    return decide(
        True,
        f"bias {size:.3g} of the gradient in '{where}' ({evidence}); seen in {count} of {len(tested.problems)}",
        bias=size,
    )


def _draw(tested: EstimatorUnderTest, problem: SmallProblem, seed: int) -> Gradients:
    with seeded(seed, problem.weights.device):
        return sample_gradients(tested.prepared(problem), problem, REPLICATES)
