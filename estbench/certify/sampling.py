"""Independent draws of an estimator's gradient in a setting, and their moments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from estbench.certify.settings.base import Setting
from estbench.errors import EstbenchError
from estbench.estimators import Estimator

# Numbers (replicates x examples x samples) of one call: fits the cache.
ROWS = 50_000
FEW = 64  # replicates of the first call, which tells whether there is noise
Gradients = dict[str, Tensor]
Sampler = Callable[[Estimator, Setting, int], Gradients]  # independent estimates, (count, B, ...) each


def gradients(
    estimator: Estimator,
    setting: Setting,
    *replicates: int,
    plain: bool = False,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Gradients:
    """Independent estimates of the gradient by group, (*R, B, ...) each, with torch's current random state.

    ``plain`` hands them to the estimator as one batch of R B examples.
    """
    leaves = setting.leaves(*replicates, plain=plain, dtype=dtype, device=device)
    found = slopes(estimator(setting.objective(leaves)).sum(), leaves)
    if not plain:
        return found
    return {name: gradient.view(*replicates, setting.examples, *gradient.shape[1:]) for name, gradient in found.items()}


def as_in_training(estimator: Estimator, setting: Setting, count: int) -> Gradients:
    """So many estimates from one plain batch in single precision, (count, B, ...) each in double."""
    found = gradients(estimator, setting, count, plain=True, dtype=torch.float32)
    return {name: gradient.double() for name, gradient in found.items()}


def slopes(total: Tensor, leaves: dict[str, Tensor]) -> Gradients:
    """The gradient of a number by leaf, zero where it does not depend on one."""
    if not total.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient.detach()
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }


def distance(first: Gradients, second: Gradients, setting: Setting) -> float:
    """The largest difference of a coordinate, relative to the norm of the exact gradient."""
    return max(float((first[group] - second[group]).abs().max()) / setting.scale(group) for group in first)


class Moments:
    """Mean and variance (ddof = 1) of every coordinate of the gradient, taken in chunk by chunk."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Gradients = {}
        self._squares: Gradients = {}

    @property
    def variance(self) -> Gradients:
        """By group, (B, ...) each."""
        return {group: squares / (self.count - 1) for group, squares in self._squares.items()}

    @property
    def error(self) -> Gradients:
        """The standard error of the mean, by group."""
        return {group: (variance / self.count).sqrt() for group, variance in self.variance.items()}

    def add(self, gradients: Gradients) -> None:
        """Take in R draws, (R, B, ...) by group (Chan, Golub and LeVeque: moments of a union from its parts')."""
        size = len(next(iter(gradients.values())))
        share = size / (self.count + size)
        for group, gradient in gradients.items():
            center = gradient.mean(0)
            if not center.isfinite().all():
                raise EstbenchError(f"the gradient of {group} is not finite in some of {size} draws")
            squares = (gradient - center).square().sum(0)
            shift = center - self.mean.get(group, center)
            self._squares[group] = self._squares.get(group, 0.0) + squares + shift.square() * (self.count * share)
            self.mean[group] = self.mean.get(group, center) + shift * share
        self.count += size


def draw(moments: Moments, estimator: Estimator, setting: Setting, count: int, sampler: Sampler = gradients) -> None:
    """Take in draws, with torch's current random state, until there are ``count``.

    An estimator without noise and state gives the same again and again, and is asked once.
    """
    evaluations = estimator.count_evaluations(setting.objective(setting.leaves()))
    chunk = max(1, ROWS // (setting.examples * evaluations))
    before = _generator_state(setting.weights.device)
    found = sampler(estimator, setting, min(chunk, FEW, count - moments.count))
    moments.add(found)
    varies = bool(estimator.state_dict()) or not torch.equal(before, _generator_state(setting.weights.device))
    while moments.count < count:
        if varies:
            found = sampler(estimator, setting, min(chunk, count - moments.count))
        moments.add(found)


def _generator_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
