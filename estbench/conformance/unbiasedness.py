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

from estbench.conformance.sampling import Moments, draw
from estbench.conformance.settings import Setting
from estbench.conformance.subject import Subject
from estbench.conformance.verdict import Verdict, deviation
from estbench.estimators import Estimator
from estbench.measure.randomness import seeded
from estbench.store.certificates import Outcome

FALSE_ALARM = 1e-4  # for one estimator, over all settings and coordinates
POWER = 0.99
DETECTABLE = 0.02  # of the gradient's norm
PILOT = 10_000
MOST = 5_000_000
ROUNDING = 1e-12


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
    estimator: Estimator, setting: Setting, coordinates: int, seed: int = 0, most: int = MOST
) -> list[BiasTest]:
    """Test the gradient of each group of a setting; ``coordinates`` is the number that share the false alarms.

    The estimator is measured as it is, in eval mode, with no more than ``most`` draws.
    """
    estimator.eval()
    threshold = float(stats.norm.isf(FALSE_ALARM / (2 * coordinates)))
    reach = threshold + float(stats.norm.ppf(POWER))
    moments = Moments()
    needed = min(PILOT, most)
    with seeded(seed, setting.weights.device):
        while moments.count < needed:
            draw(moments, estimator, setting, needed)
            shares = (reach * error.max() / setting.scale(group) for group, error in moments.error.items())
            ratio = float(max(shares)) / DETECTABLE
            if ratio > 1:
                needed = min(most, math.ceil(1.05 * moments.count * ratio**2))
    exact = setting.exact()
    tests = []
    for group, error in moments.error.items():
        scale, mean = setting.scale(group), moments.mean[group]
        # Where nothing varies, what is left is rounding; where the sampler is inexact, that much is no defect.
        excess = ((mean - exact[group]).abs() - setting.accuracy * scale).clamp(min=0)
        z = excess / error.clamp(min=ROUNDING * scale)
        worst = int(z.argmax())
        tests.append(
            BiasTest(
                setting=setting.name,
                group=group,
                replicates=moments.count,
                z=float(z.max()),
                threshold=threshold,
                coordinate=tuple(int(index) for index in torch.unravel_index(torch.tensor(worst), z.shape)),
                expected=float(exact[group].flatten()[worst]),
                measured=float(mean.flatten()[worst]),
                bias=float((mean - exact[group]).norm() / scale),
                detectable=float(reach * error.max() / scale) + setting.accuracy,
                message=deviation(group, mean, exact[group], worst, f"z = {float(z.max()):.1f}"),
            )
        )
    return tests


def unbiased(subject: Subject, setting: Setting) -> Verdict:
    """The z-test of one setting, of all groups: every coordinate of the mean gradient is the exact one's."""
    tests = bias_tests(subject.prepared(setting), setting, subject.coordinates)
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
    if not worst.unbiased:
        return Verdict(Outcome.FAILED, evidence, worst.message, worst.z / worst.threshold, numbers)
    if detectable > DETECTABLE + setting.accuracy:
        said = f"after {worst.replicates:,} draws, a bias below {detectable:.1%} of the gradient could go unseen"
        return Verdict(Outcome.INCONCLUSIVE, evidence, said, worst.z / worst.threshold, numbers)
    return Verdict(Outcome.PASSED, evidence, "", worst.z / worst.threshold, numbers)
