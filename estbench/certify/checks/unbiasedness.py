r"""Is the mean of the estimates the exact gradient? A z-test for every coordinate, and how small a bias it can see.

With n independent replicates, z_i = sqrt(n) (mean_i - exact_i) / sd_i is a standard normal for an unbiased
estimator. Coordinates are tested one by one, with a threshold that holds the chance of any false alarm among all of
them (Bonferroni). A signed sum over coordinates would let opposite biases cancel.

The threshold c and n decide the power: a bias of (c + z_0.99) sd_i / sqrt(n) in coordinate i is caught 99 times in
100. Draws are added until this is at most a given share of the gradient's norm. How many that takes depends on the
variance alone and never on the mean, so looking several times costs no false alarm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats

from estbench.certify.checks import enumeration
from estbench.certify.record import Outcome
from estbench.certify.sampling import Gradients, Moments, Sampler, as_in_training, draw, gradients
from estbench.certify.settings.base import EXAMPLES, Setting
from estbench.certify.subject import Subject
from estbench.certify.verdict import Verdict, deviation, not_applicable, threshold, verdict
from estbench.estimators import Estimator
from estbench.randomness import seeded

POWER = 0.99
DETECTABLE = 0.02  # of the gradient's norm, unless the setting says otherwise
PILOT = 10_000
MOST = 5_000_000
SINGLES = 300  # calls of one example each
ROUNDING = 1e-12
SINGLE = 1e-5  # what single precision may be off, of the gradient's norm
CHECK = "unbiased"


@dataclass(frozen=True)
class BiasTest:
    """The verdict on one group of one setting, and what it rests on."""

    setting: str
    group: str
    replicates: int
    z: float  # the largest |z| of a coordinate
    threshold: float
    coordinate: tuple[int, ...]  # where it is: (example, latent, ...)
    expected: float
    measured: float
    bias: float  # |mean - exact| / |exact|, over the group
    detectable: float  # the bias of one coordinate, relative to |exact|, that is caught 99 times in 100
    message: str  # where the two differ, and what usually makes it so

    @property
    def unbiased(self) -> bool:
        """Whether no coordinate is beyond the threshold."""
        return self.z <= self.threshold


def bias_tests(
    estimator: Estimator,
    setting: Setting,
    coordinates: int,
    seed: int = 0,
    most: int = MOST,
    *,
    sampler: Sampler = gradients,
    check: str = CHECK,
) -> list[BiasTest]:
    """Test the gradient of each group of a setting; ``coordinates`` is the number that share the false alarms.

    The estimator is measured as it is, with no more than ``most`` draws.
    """
    bound = threshold(check, coordinates)
    reach = bound + float(stats.norm.ppf(POWER))
    accuracy = setting.accuracy + (0.0 if sampler is gradients else SINGLE)
    moments = Moments()
    needed = min(PILOT, most)
    with seeded(seed, setting.weights.device):
        while moments.count < needed:
            draw(moments, estimator, setting, needed, sampler)
            shares = (reach * error.max() / setting.scale(group) for group, error in moments.error.items())
            ratio = float(max(shares)) / setting.detectable
            if ratio > 1:
                needed = min(most, math.ceil(1.05 * moments.count * ratio**2))
    exact = setting.exact()
    tests = []
    for group, error in moments.error.items():
        scale, mean = setting.scale(group), moments.mean[group]
        # Where nothing varies, what is left is rounding; where the sampler is inexact, that much is no defect.
        excess = ((mean - exact[group]).abs() - accuracy * scale).clamp(min=0)
        z = excess / error.clamp(min=ROUNDING * scale)
        worst = int(z.argmax())
        tests.append(
            BiasTest(
                setting=setting.name,
                group=group,
                replicates=moments.count,
                z=float(z.max()),
                threshold=bound,
                coordinate=tuple(int(index) for index in torch.unravel_index(torch.tensor(worst), z.shape)),
                expected=float(exact[group].flatten()[worst]),
                measured=float(mean.flatten()[worst]),
                bias=float((mean - exact[group]).norm() / scale),
                detectable=float(reach * error.max() / scale) + accuracy,
                message=deviation(group, mean, exact[group], worst, f"z = {float(z.max()):.1f}"),
            )
        )
    return tests


def unbiased(subject: Subject, setting: Setting) -> Verdict:
    """The z-test of one setting, of all groups, as in training: plain batches, single precision, training mode.

    Where the mean is known by enumeration, and another setting of the kind has the whole test, few draws do.
    """
    estimator = subject.prepared(setting, torch.float32).train()
    fully_tested = setting.examples > EXAMPLES or any(setting is each for each in subject.representatives)
    if not fully_tested and enumeration.exact_mean(subject, setting).outcome is Outcome.PASSED:
        return _verdict(bias_tests(estimator, setting, subject.coordinates, most=PILOT, sampler=as_in_training))
    found = _verdict(bias_tests(estimator, setting, subject.coordinates, sampler=as_in_training))
    detectable = found.numbers["detectable"]
    if found.outcome is Outcome.PASSED and detectable > setting.detectable + setting.accuracy + SINGLE:
        said = f"after {found.numbers['n']:,.0f} draws, a bias below {detectable:.1%} of the gradient could go unseen"
        return found._replace(outcome=Outcome.INCONCLUSIVE, message=said)
    return found


def in_a_probe(subject: Subject, setting: Setting) -> Verdict:
    """The same of replicates in double precision and eval mode, with few draws.

    What declares a bias has its mean compared with that in training's conditions.
    """
    check = "as in a probe"
    estimator = subject.prepared(setting)
    if subject.facts.unbiased:
        return _verdict(bias_tests(estimator, setting, subject.coordinates, most=PILOT, check=check))
    moments = Moments(), Moments()
    with seeded(21, torch.device("cpu")):
        draw(moments[0], estimator, setting, PILOT)
        draw(moments[1], subject.prepared(setting, torch.float32), setting, PILOT, as_in_training)
    return same_mean(*moments, setting, threshold(check, subject.coordinates), "in single precision and plain batches")


def one_by_one(subject: Subject, setting: Setting) -> Verdict:
    """The same of batches of one example, one call after the other."""
    if not subject.facts.unbiased:
        return not_applicable("it declares a bias")
    estimator = subject.prepared(setting, torch.float32).train()
    alone = setting.rows([0])
    coordinates = sum(leaf.numel() for each in subject.representatives for leaf in each.rows([0]).leaves().values())

    def successive(estimator: Estimator, setting: Setting, count: int) -> Gradients:
        calls = [as_in_training(estimator, setting, 1) for _ in range(count)]
        return {name: torch.cat([call[name] for call in calls]) for name in calls[0]}

    return _verdict(
        bias_tests(
            estimator, alone, coordinates, most=SINGLES, sampler=successive, check="one example at a time", seed=22
        )
    )


def same_mean(first: Moments, second: Moments, setting: Setting, bound: float, where: str) -> Verdict:
    """Whether two kinds of draws have the same mean, coordinate by coordinate."""
    z, reach = 0.0, 0.0
    for group, mean in first.mean.items():
        scale = max(setting.scale(group), float(mean.norm()))
        error = (first.error[group].square() + second.error[group].square()).sqrt().clamp(min=ROUNDING * scale)
        excess = ((mean - second.mean[group]).abs() - SINGLE * scale).clamp(min=0)
        z = max(z, float((excess / error).max()))
        reach = max(reach, float(error.max()) / scale * (bound + float(stats.norm.ppf(POWER))))
    return verdict(
        z <= bound,
        f"max |z| = {z:.2f}, bound {bound:.2f}, n = {second.count:,}; a difference of {reach:.1%} would show",
        f"the mean gradient is another {where} (z = {z:.1f}); treat every shape and precision alike",
        z / bound,
    )


def _verdict(tests: list[BiasTest]) -> Verdict:
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
    return verdict(worst.unbiased, evidence, worst.message, worst.z / worst.threshold, **numbers)
