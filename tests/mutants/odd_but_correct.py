"""Estimators without a defect that look unusual."""

from __future__ import annotations

import torch

from estbench.estimators.score_function import leave_one_out_mean, score_function_surrogate
from mutants.base import Bits, Correct, Counts


class DrawsMoreThanItUses(Bits):
    def uniforms(self, like):
        torch.randn(7)
        return super().uniforms(like)


class SeedsItsGenerator(Bits):
    """A generator of its own, seeded anew by torch's in each call."""

    def uniforms(self, like):
        generator = torch.Generator(like.device).manual_seed(int(torch.randint(1 << 40, ())))
        return torch.rand(4, *like.shape, dtype=like.dtype, device=like.device, generator=generator)


class RandomNumber(Bits):
    """A random number of the samples is used, per call."""

    def surrogate(self, objective, z, f):
        count = int(torch.randint(2, 5, ()))
        return super().surrogate(objective, z[:count], f[:count])


class Permutes(Bits):
    def surrogate(self, objective, z, f):
        order = torch.randperm(len(z))
        return super().surrogate(objective, z[order], f[order])


class Systematic(Bits):
    """Uniforms at equal distances."""

    def uniforms(self, like):
        steps = torch.arange(4, dtype=like.dtype, device=like.device).view(-1, *[1] * like.dim()) / 4
        return (torch.rand(like.shape, dtype=like.dtype, device=like.device) + steps) % 1

    def surrogate(self, objective, z, f):
        return score_function_surrogate(objective, z, f, f)


class CountsAndDoesNothing(Counts):
    pass


class RandomFactor(Bits):
    """A factor of mean one for each example."""

    def surrogate(self, objective, z, f):
        right = super().surrogate(objective, z, f)
        return right * (0.5 + torch.rand(right.shape, dtype=right.dtype, device=right.device))


class Tempered(Correct):
    """Importance sampling: samples from flatter bits, weighted."""

    supports = frozenset({"bernoulli"})

    def forward(self, objective):
        flatter = objective.build_q({"logits": 0.7 * objective.params["logits"].detach()})
        z = flatter.sample((4,))
        f, frozen = objective.f(z, objective.frozen_q()), objective.frozen_q()
        weight = (frozen.log_prob(z) - flatter.log_prob(z)).exp()
        return (weight * (f + f.detach() * objective.q.log_prob(z))).mean(0) - objective.kl()


class Mixes(Bits):
    """A coin for each example decides between two right estimators."""

    def surrogate(self, objective, z, f):
        one = super().surrogate(objective, z, f)
        coin = torch.rand(one.shape, dtype=one.dtype, device=one.device) < 0.5
        return torch.where(coin, one, score_function_surrogate(objective, z, f, f))


class FitsItsCoefficient(Bits):
    """The baseline is a coefficient fitted in earlier steps times the leave-one-out mean."""

    def __init__(self, options=None):
        super().__init__(options)
        self.register_buffer("coefficient", torch.ones((), dtype=torch.float64))

    def surrogate(self, objective, z, f):
        others = leave_one_out_mean(f)
        right = score_function_surrogate(objective, z, f, f - self.coefficient.to(f.dtype) * others)
        if self.training:
            fitted = (f * others).mean() / others.square().mean().clamp(min=1e-6)
            self.coefficient.mul_(0.9).add_(0.1 * fitted.detach().clamp(0, 1))
        return right


ODD_BUT_CORRECT = [
    DrawsMoreThanItUses,
    SeedsItsGenerator,
    RandomNumber,
    Permutes,
    Systematic,
    CountsAndDoesNothing,
    RandomFactor,
    Tempered,
    Mixes,
    FitsItsCoefficient,
]
