"""Batches of any size, and integrands of any size: what is proved for one must hold for the others.

Gradients under the same noise are compared, which is exact. If an estimator draws its noise in another order for
another shape, or is not linear in f, mean gradients are compared instead.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import torch

from estbench.certify.check_result import CheckResult, decide, not_applicable, z_threshold
from estbench.certify.checks.exact_mean import compare_mean, enumerate_moments
from estbench.certify.checks.unbiasedness import compare_means
from estbench.certify.estimator_under_test import EstimatorUnderTest
from estbench.certify.problems.base import SmallProblem
from estbench.certify.record import CheckOutcome
from estbench.certify.sampling import Gradients, RunningMoments, draw_until, sample_as_in_training, sample_gradients
from estbench.estimators import Estimator
from estbench.randomness import seeded

CPU = torch.device("cpu")
# Replicates times examples is always the same number. One plain batch in single precision is compared with each shape.
ROWS = 204
SHAPES = ((1, 204), (204, 1), (102, 2), (68, 3), (51, 4), (12, 17), (2, 51, 2), (2, 3, 34))
DRAWS = 20_000
ROUNDING = 1e-4  # of the gradient, in single precision
# Nats added to log p(x|z): a constant changes no gradient.
OFFSETS = (-500.0, 500.0)
# Allowed deviation of their effect on one estimate from a linear one, in double and in single precision.
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-2}


def check_batch_sizes(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that batches of 1, 2, 3, ... examples, plain or of replicates, give the gradients of one large batch."""
    example = problem.examples - 1
    plain = _draw_copies(tested, problem, example, (ROWS,), training=True)
    different = []
    for training in (False, True):
        for shape in ((ROWS,), *SHAPES):
            drawn = _draw_copies(tested, problem, example, shape, training=training)
            scale = max(float(gradient.abs().max()) for gradient in plain.values())
            error = max(float((drawn[group] - plain[group]).abs().max()) / scale for group in plain)
            if not error <= ROUNDING:
                different.append((shape, training))
    bound = z_threshold("batch sizes", 2 * (len(SHAPES) + 1) * tested.coordinates)
    for shape, training in different:
        # The whole shape is drawn again and again: every row of it is an estimate for the same example.
        sampler = partial(_draw_rows, shape=shape)
        moments = RunningMoments(), RunningMoments()
        with seeded(25, CPU):
            one_example = problem.select([example])
            estimator = tested.prepared(problem, torch.float32).train(training)
            draw_until(DRAWS, moments[0], estimator, one_example, sample_as_in_training)
            estimator = tested.prepared(problem, torch.float32).train(training)
            draw_until(DRAWS, moments[1], estimator, one_example, sampler)
        where = f"in batches of {shape}, {'training' if training else 'eval'} mode"
        result = compare_means(*moments, one_example, bound, where)
        if result.outcome is not CheckOutcome.PASSED:
            return result
    sizes = sorted({shape[-1] for shape in SHAPES})
    evidence = "the same mean gradients" if different else "the same gradients under the same noise"
    return decide(True, f"{', '.join(map(str, sizes))} examples, with and without replicates: {evidence}")


def check_large_f(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that hundreds of nats more or less in f do not change the mean gradient, also in single precision.

    In an estimator that is linear in f, a constant adds noise in proportion to it. The mean of this noise must be zero:
    to the last digit if it can be enumerated, otherwise as far as draws show.
    """
    if not tested.facts.unbiased:
        return not_applicable("it declares a bias")
    no_effect, worst = True, 0.0
    for offset in OFFSETS:
        for dtype, allowed in TOLERANCES.items():
            base, one, many = (
                _draw_with_constant(tested, problem, constant, dtype)
                for constant in (0.0, math.copysign(1.0, offset), offset)
            )
            for group, gradient in base.items():
                effect, expected = many[group] - gradient, (one[group] - gradient) * abs(offset)
                scale = max(problem.gradient_norm(group), float(gradient.abs().max()), float(expected.abs().max()))
                error = float((effect - expected).abs().max()) / scale
                if not math.isfinite(error):
                    message = (
                        f"the gradient of {group} is not finite with {offset:+.0f} nats in f ({dtype}); compute with"
                        " logarithms, and subtract the largest first"
                    )
                    return decide(False, "", message)
                worst = max(worst, error / allowed)
                no_effect = no_effect and float(expected.abs().max()) <= allowed * scale
    if worst <= 1 and no_effect:
        return decide(True, f"{OFFSETS[1]:.0f} nats more or less change no estimate")
    moments = enumerate_moments(tested.prepared(problem), _add_constant(problem, OFFSETS[0]))
    if moments is not None:
        return compare_mean(moments.mean, problem, f"{OFFSETS[0]:+.0f} nats", abs(OFFSETS[0]))
    return _test_mean_effect(tested, problem, linear=worst <= 1)


def _test_mean_effect(tested: EstimatorUnderTest, problem: SmallProblem, *, linear: bool) -> CheckResult:
    """Test whether the paired difference that a constant in f makes has mean zero; of 1 nat if it is ``linear``."""
    constant = 1.0 if linear else OFFSETS[0]
    with seeded(26, CPU):
        state = torch.get_rng_state()
        moments = RunningMoments()
        while moments.count < DRAWS:
            pair = []
            for each in (constant, 0.0):
                torch.set_rng_state(state)
                pair.append(sample_gradients(tested.prepared(problem), _add_constant(problem, each), DRAWS // 4))
            state = torch.get_rng_state()
            moments.add({group: pair[0][group] - pair[1][group] for group in pair[0]})
    zero = RunningMoments()
    zero.add({group: torch.zeros(2, *mean.shape, dtype=mean.dtype) for group, mean in moments.mean.items()})
    bound = z_threshold("large f", tested.coordinates)
    return compare_means(moments, zero, problem, bound, f"with {constant:+.0f} nats in f")


def _add_constant(problem: SmallProblem, constant: float) -> SmallProblem:
    return dataclasses.replace(problem, integrand=lambda z, w: problem.integrand(z, w) + constant)


def _draw_with_constant(
    tested: EstimatorUnderTest, problem: SmallProblem, constant: float, dtype: torch.dtype
) -> Gradients:
    with seeded(27, CPU):
        return sample_gradients(tested.prepared(problem, dtype), _add_constant(problem, constant), 64, dtype=dtype)


def _draw_copies(
    tested: EstimatorUnderTest, problem: SmallProblem, example: int, shape: tuple[int, ...], *, training: bool
) -> Gradients:
    estimator = tested.prepared(problem, torch.float32).train(training)
    with seeded(28, CPU):
        return _draw_batch(estimator, problem.select([example]), shape)


def _draw_batch(estimator: Estimator, one_example: SmallProblem, shape: tuple[int, ...]) -> Gradients:
    """Return estimates for copies of one example in a batch of this shape, (rows, 1, ...) in double precision."""
    copies = one_example.select([0] * shape[-1])
    drawn = sample_gradients(estimator, copies, *shape[:-1], dtype=torch.float32)
    return {group: g.double().reshape(-1, 1, *g.shape[len(shape) :]) for group, g in drawn.items()}


def _draw_rows(estimator: Estimator, one_example: SmallProblem, count: int, shape: tuple[int, ...]) -> Gradients:  # noqa: ARG001
    return _draw_batch(estimator, one_example, shape)
