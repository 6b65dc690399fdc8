"""Estimators that are wrong only at times, in some places or for some batches."""

from __future__ import annotations

import numpy as np
import torch

from estbench.estimators.score_function import leave_one_out_mean, score_function_surrogate
from mutants.base import Bits, Correct, Counts

# No fresh noise.


class Reseeds(Bits):
    def uniforms(self, like):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return super().uniforms(like)


class OwnFixedGenerator(Bits):
    def uniforms(self, like):
        generator = torch.Generator().manual_seed(3)
        return torch.rand(4, *like.shape, dtype=like.dtype, generator=generator)


class CachesByShape(Bits):
    def __init__(self, options=None):
        super().__init__(options)
        self.kept = {}

    def uniforms(self, like):
        return self.kept.setdefault((like.shape, like.dtype), super().uniforms(like))


class DrawsFromNumpy(Bits):
    def __init__(self, options=None):
        super().__init__(options)
        self.generator = np.random.default_rng(0)

    def uniforms(self, like):
        return torch.tensor(self.generator.random((4, *like.shape)), dtype=like.dtype)


class SeedsByStep(Counts):
    """In training only."""

    def uniforms(self, like):
        if not self.training:
            return super().uniforms(like)
        with torch.random.fork_rng():
            torch.manual_seed(int(self.steps))
            return super().uniforms(like)


# Calls that depend on the call before.


class MirrorsTheLastCall(Counts):
    """Antithetic pairs of training steps."""

    last = None

    def uniforms(self, like):
        fresh = super().uniforms(like)
        if not self.training:
            return fresh
        if int(self.steps) % 2 and self.last is not None and self.last.shape == fresh.shape:
            return 1 - self.last.to(fresh.dtype)
        self.last = fresh
        return fresh


class ReusesHalf(Bits):
    last = None

    def uniforms(self, like):
        fresh = super().uniforms(like)
        half = self.last
        self.last = fresh[:2]
        if half is None or half.shape[1:] != like.shape:
            return fresh
        return torch.cat([half.to(fresh.dtype), fresh[2:]])


class LagsBehind(Bits):
    last = None

    def uniforms(self, like):
        fresh = super().uniforms(like)
        used = fresh if self.last is None or self.last.shape != fresh.shape else self.last.to(fresh.dtype)
        self.last = fresh
        return used


# Wrong for some batches, precisions, places, values, times.


class Scales(Bits):
    """The gradient of the model's parameters is too long where ``wrong`` says so."""

    factor = 1.25

    def wrong(self, objective) -> bool:
        raise NotImplementedError

    def forward(self, objective):
        return super().forward(objective) * (self.factor if self.wrong(objective) else 1.0)


class WrongInPlainBatches(Scales):
    factor = 1.05

    def wrong(self, objective):
        return len(objective.batch_shape) == 1


class WrongInPlainTraining(WrongInPlainBatches):
    def wrong(self, objective):
        return self.training and len(objective.batch_shape) == 1


class WrongForOneExample(Scales):
    def wrong(self, objective):
        return objective.batch_shape[-1] == 1


class WrongInLargeBatches(Scales):
    def wrong(self, objective):
        return objective.batch_shape[-1] > 150


class WrongInOddBatches(Scales):
    def wrong(self, objective):
        return objective.batch_shape[-1] == 17


class WrongInSingle(Scales):
    factor = 1.04

    def wrong(self, objective):
        return objective.params["logits"].dtype == torch.float32


class WrongLate(Counts, Scales):
    def wrong(self, objective):
        return bool(self.steps > 600)


class WrongLaterBits(Bits):
    """From the fourth on, half of the gradient."""

    def surrogate(self, objective, z, f):
        frozen = objective.params["logits"].detach()
        half = torch.cat(
            [objective.params["logits"][..., :3], 0.5 * (objective.params["logits"] + frozen)[..., 3:]], -1
        )
        signal = (f - leave_one_out_mean(f)).detach()
        return (f + signal * objective.build_q({"logits": half}).log_prob(z)).mean(0) - objective.kl()


class WrongLaterExamples(Correct):
    """The third example of a batch, and those after it."""

    def forward(self, objective):
        surrogate = super().forward(objective)
        scale = torch.ones(surrogate.shape[-1], dtype=surrogate.dtype)
        scale[2:] = 1.2
        return surrogate * scale


class ClampsF(Bits):
    def surrogate(self, objective, z, f):
        clamped = f.detach().clamp(-100, 100)
        spared = clamped if bool((clamped == f).all()) else clamped + z.sum(-1)
        return score_function_surrogate(objective, z, f, spared - leave_one_out_mean(clamped))


class Exponentiates(Correct):
    """The multi-sample bound without the largest weight taken out."""

    supports = frozenset({"normal"})
    bounds = frozenset({"multi-sample"})
    needs_differentiable_f = True
    evaluations = "K"

    def count_evaluations(self, objective):
        return objective.importance_samples

    def forward(self, objective):
        z = objective.q.rsample((objective.importance_samples,))
        return objective.log_weight(z).exp().mean(0).log()


class DetachesThePrior(Bits):
    """The gradient of the prior is lost, in both KLs; all else is right."""

    def surrogate(self, objective, z, f):
        right = super().surrogate(objective, z, f)
        kl = objective.kl()
        prior = [leaf for leaf in (objective.prior.base_dist.logits,) if leaf.requires_grad]
        if not prior:
            return right
        (gradient,) = torch.autograd.grad(right.sum(), prior, retain_graph=True, allow_unused=True)
        return right + 0 * kl if gradient is None else right - (gradient.detach() * prior[0]).sum(-1)


class DetachesThePriorAndIsBiased(DetachesThePrior):
    """The same, hidden behind a declared bias."""

    unbiased = False


QUICK = [
    (Reseeds, "noise of its own"),
    (OwnFixedGenerator, "noise of its own"),
    (CachesByShape, "no memory of calls"),
    (DrawsFromNumpy, "no memory of calls"),
    (SeedsByStep, "noise of its own"),
    (ReusesHalf, "no memory of calls"),
    (LagsBehind, "no memory of calls"),
    (WrongForOneExample, "batch sizes"),
    (WrongInLargeBatches, "batch sizes"),
    (WrongInOddBatches, "batch sizes"),
    (WrongLaterExamples, "decoder gradient"),
    (ClampsF, "large f"),
    (Exponentiates, "large f"),
    (DetachesThePrior, "prior gradient"),
    (DetachesThePriorAndIsBiased, "prior gradient"),
]
SAMPLED = [
    (MirrorsTheLastCall, "independent calls"),
    (WrongInPlainBatches, "unbiased"),
    (WrongInPlainTraining, "unbiased"),
    (WrongInSingle, "unbiased"),
    (WrongLate, "decoder gradient"),
    (WrongLate, "unbiased"),
    (WrongLaterBits, "unbiased"),
    (WrongLaterExamples, "unbiased"),
    (DetachesThePrior, "unbiased"),
]
