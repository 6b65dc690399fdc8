"""Batches of any size, and integrands of any size: what is proved in one holds in the others.

Compared are gradients under the same noise, which is exact. Where an estimator draws its noise in another order for
another shape, or is not linear in f, means are compared instead.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import torch

from estbench.certify.checks import enumeration
from estbench.certify.checks.unbiasedness import same_mean
from estbench.certify.sampling import Gradients, Moments, as_in_training, draw, gradients
from estbench.certify.settings.base import Setting
from estbench.certify.subject import Subject
from estbench.certify.verdict import Verdict, not_applicable, threshold, verdict
from estbench.estimators import Estimator
from estbench.randomness import seeded

CPU = torch.device("cpu")
# Replicates and examples, as many in all: one plain batch in single precision is compared with each.
ROWS = 204
SHAPES = ((1, 204), (204, 1), (102, 2), (68, 3), (51, 4), (12, 17), (2, 51, 2), (2, 3, 34))
DRAWS = 20_000
ROUNDING = 1e-4  # of the gradient, in single precision
# Nats added to log p(x|z): a constant changes no gradient.
OFFSETS = (-500.0, 500.0)
LARGE = 1e-6  # of their effect on a single estimate, in double precision
OVERFLOW = 1e-2  # the same in single precision


def batch_sizes(subject: Subject, setting: Setting) -> Verdict:
    """Batches of 1, 2, 3, 4, 17, ... examples, plain or of replicates, give the gradients of one large plain batch."""
    example = setting.examples - 1
    plain = _reshaped(subject, setting, example, (ROWS,), training=True)
    otherwise = []
    for training in (False, True):
        for shape in ((ROWS,), *SHAPES):
            found = _reshaped(subject, setting, example, shape, training=training)
            scale = max(float(gradient.abs().max()) for gradient in plain.values())
            error = max(float((found[group] - plain[group]).abs().max()) / scale for group in plain)
            if not error <= ROUNDING:
                otherwise.append((shape, training))
    bound = threshold("batch sizes", 2 * (len(SHAPES) + 1) * subject.coordinates)
    for shape, training in otherwise:
        # The whole shape is drawn again and again: every row of it is an estimate for the same example.
        sampler = partial(_rows, shape=shape)
        moments = Moments(), Moments()
        with seeded(25, CPU):
            alone = setting.rows([example])
            draw(moments[0], subject.prepared(setting, torch.float32).train(training), alone, DRAWS, as_in_training)
            draw(moments[1], subject.prepared(setting, torch.float32).train(training), alone, DRAWS, sampler)
        said = same_mean(*moments, alone, bound, f"in batches of {shape}, {'training' if training else 'eval'} mode")
        if said.outcome != "passed":
            return said
    sizes = sorted({shape[-1] for shape in SHAPES})
    how = "the same gradients under the same noise" if not otherwise else "the same mean gradients"
    return verdict(True, f"{', '.join(map(str, sizes))} examples, with and without replicates: {how}")


def large_f(subject: Subject, setting: Setting) -> Verdict:
    """Hundreds of nats more or less in f: the mean gradient stays, in single precision too.

    An estimator that is linear in f has the same noise for every constant, times the constant. Its mean is zero to
    the last digit where the noise is enumerated, else as far as draws show.
    """
    if not subject.facts.unbiased:
        return not_applicable("it declares a bias")
    none, worst = True, 0.0
    for offset in OFFSETS:
        for dtype, allowed in ((torch.float64, LARGE), (torch.float32, OVERFLOW)):
            base, one, many = (
                _offset(subject, setting, constant, dtype) for constant in (0.0, math.copysign(1.0, offset), offset)
            )
            for group, gradient in base.items():
                effect, expected = many[group] - gradient, (one[group] - gradient) * abs(offset)
                scale = max(setting.scale(group), float(gradient.abs().max()), float(expected.abs().max()))
                error = float((effect - expected).abs().max()) / scale
                if not math.isfinite(error):
                    said = f"the gradient of {group} is not finite with {offset:+.0f} nats in f ({dtype})"
                    return verdict(False, "", f"{said}; work with logarithms, and subtract the largest first")
                worst = max(worst, error / allowed)
                none = none and float(expected.abs().max()) <= allowed * scale
    if worst <= 1 and none:
        return verdict(True, f"{OFFSETS[1]:.0f} nats more or less change no estimate")
    shifted = dataclasses.replace(setting, integrand=lambda z, w: setting.integrand(z, w) + OFFSETS[0])
    found = enumeration.expectation(subject.prepared(setting), shifted)
    if found is not None:
        return enumeration.compare(found.mean, setting, f"{OFFSETS[0]:+.0f} nats", abs(OFFSETS[0]))
    return _mean_effect(subject, setting, linear=worst <= 1)


def _mean_effect(subject: Subject, setting: Setting, *, linear: bool) -> Verdict:
    """The z-test of the paired difference that a constant makes; per nat, where it is linear in the constant."""
    constant = 1.0 if linear else OFFSETS[0]
    with seeded(26, CPU):
        state = torch.get_rng_state()
        moments = Moments()
        while moments.count < DRAWS:
            pair = []
            for each in (constant, 0.0):
                torch.set_rng_state(state)
                pair.append(gradients(subject.prepared(setting), _plus(setting, each), DRAWS // 4))
            state = torch.get_rng_state()
            moments.add({group: pair[0][group] - pair[1][group] for group in pair[0]})
    zero = Moments()
    zero.add({group: torch.zeros(2, *mean.shape, dtype=mean.dtype) for group, mean in moments.mean.items()})
    bound = threshold("large f", subject.coordinates)
    return same_mean(moments, zero, setting, bound, f"with {constant:+.0f} nats in f")


def _plus(setting: Setting, constant: float) -> Setting:
    return dataclasses.replace(setting, integrand=lambda z, w: setting.integrand(z, w) + constant)


def _offset(subject: Subject, setting: Setting, constant: float, dtype: torch.dtype) -> Gradients:
    with seeded(27, CPU):
        return gradients(subject.prepared(setting, dtype), _plus(setting, constant), 64, dtype=dtype)


def _reshaped(subject: Subject, setting: Setting, example: int, shape: tuple[int, ...], *, training: bool) -> Gradients:
    estimator = subject.prepared(setting, torch.float32).train(training)
    with seeded(28, CPU):
        return _batch(estimator, setting.rows([example]), shape)


def _batch(estimator: Estimator, alone: Setting, shape: tuple[int, ...]) -> Gradients:
    """Estimates for copies of one example in a batch of this shape, (rows, 1, ...) in double."""
    copies = alone.rows([0] * shape[-1])
    found = gradients(estimator, copies, *shape[:-1], dtype=torch.float32)
    return {group: g.double().reshape(-1, 1, *g.shape[len(shape) :]) for group, g in found.items()}


def _rows(estimator: Estimator, alone: Setting, count: int, shape: tuple[int, ...]) -> Gradients:  # noqa: ARG001
    return _batch(estimator, alone, shape)
