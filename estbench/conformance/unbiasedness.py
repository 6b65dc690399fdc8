r"""Is the mean of the estimates the exact gradient? A z-test for every coordinate, and how small a bias it can see.

With n independent replicates, z_i = sqrt(n) (mean_i - exact_i) / sd_i is a standard normal for an unbiased
estimator. Coordinates are tested one by one, with a threshold that holds the chance of any false alarm among all of
them (Bonferroni). A signed sum over coordinates would let opposite biases cancel.

The threshold c and n decide the power: a bias of (c + z_0.99) sd_i / sqrt(n) in coordinate i is caught 99 times in
100. n is chosen from a pilot so that this is at most a given share of the gradient's norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from estbench.conformance.settings import WEIGHTS, Setting
from estbench.estimators import Estimator
from estbench.measure.randomness import seeded

FALSE_ALARM = 1e-4  # for one estimator, over all settings and coordinates
POWER = 0.99
DETECTABLE = 0.02  # of the gradient's norm
PILOT = 10_000
MOST = 20_000_000
# Numbers (replicates x examples x samples) of one call: fits the cache.
ROWS = 100_000


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

    @property
    def unbiased(self) -> bool:
        """Whether no coordinate is beyond the threshold."""
        return self.z <= self.threshold


def bias_tests(estimator: Estimator, setting: Setting, coordinates: int, seed: int = 0) -> list[BiasTest]:
    """Test the gradient of each group of a setting; ``coordinates`` is the number that share the false alarms.

    The estimator is measured as it is, in eval mode.
    """
    exact = setting.exact()
    threshold = float(stats.norm.isf(FALSE_ALARM / (2 * coordinates)))
    reach = threshold + float(stats.norm.ppf(POWER))
    scales = {group: _norm(exact, setting, group) for group in exact}
    pilot = moments(estimator, setting, PILOT, seed)
    needed = max(
        (reach * float(variance.sqrt().max()) / (DETECTABLE * scales[group])) ** 2
        for group, (_, variance) in pilot.items()
    )
    replicates = min(MOST, max(PILOT, math.ceil(1.1 * needed)))
    tests = []
    for group, (mean, variance) in moments(estimator, setting, replicates, seed + 1).items():
        error = (variance / replicates).sqrt()
        # Where nothing varies, what is left is rounding.
        z = ((mean - exact[group]) / error.clamp(min=1e-12 * scales[group])).abs()
        worst = int(z.argmax())
        tests.append(
            BiasTest(
                setting=setting.name,
                group=group,
                replicates=replicates,
                z=float(z.max()),
                threshold=threshold,
                coordinate=tuple(int(index) for index in torch.unravel_index(torch.tensor(worst), z.shape)),
                expected=float(exact[group].flatten()[worst]),
                measured=float(mean.flatten()[worst]),
                bias=float((mean - exact[group]).norm() / scales[group]),
                detectable=float(reach * error.max() / scales[group]),
            )
        )
    return tests


def moments(estimator: Estimator, setting: Setting, replicates: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance (ddof = 1) of every coordinate of the gradient, by group: (B, ...) each."""
    estimator.eval()
    chunk = max(1, ROWS // (len(setting.weights) * estimator.count_evaluations(setting.objective(setting.leaves()))))
    count = 0
    mean: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    with seeded(seed, setting.weights.device):
        while count < replicates:
            size = min(chunk, replicates - count)
            for group, gradient in gradients(estimator, setting, size).items():
                center = gradient.mean(0)
                shift = center - mean.get(group, center)
                # Chan, Golub and LeVeque: moments of a union from those of its parts.
                squares[group] = (
                    squares.get(group, 0.0)
                    + (gradient - center).square().sum(0)
                    + shift.square() * (count * size / (count + size))
                )
                mean[group] = mean.get(group, center) + shift * (size / (count + size))
            count += size
    return {group: (mean[group], squares[group] / (count - 1)) for group in mean}


def gradients(estimator: Estimator, setting: Setting, replicates: int) -> dict[str, Tensor]:
    """Independent estimates of the gradient by group, (R, B, ...) each, with torch's current random state."""
    leaves = setting.leaves(replicates)
    surrogate = estimator(setting.objective(leaves)).sum()
    found = torch.autograd.grad(surrogate, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }


def _norm(exact: dict[str, Tensor], setting: Setting, group: str) -> float:
    """Norm of the exact gradient that a group is part of: all variational parameters, or the decoder's weights."""
    names = [WEIGHTS] if group == WEIGHTS else list(setting.params)
    return math.sqrt(sum(float(exact[name].square().sum()) for name in names))
