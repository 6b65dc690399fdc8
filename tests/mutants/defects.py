"""Estimators with one defect each, of the kind that released code has had."""

from __future__ import annotations

import torch

from estbench.estimators._noise import logistic_perturbed, open_uniform
from estbench.estimators.score_function import leave_one_out_mean, score_function_surrogate
from mutants.base import Correct


class IncludesItself(Correct):
    """The baseline is the mean of all samples: the gradient shrinks by (S - 1) / S."""

    def forward(self, objective):
        z, f = self.draw(objective)
        return score_function_surrogate(objective, z, f, f - f.mean(0))


class DoublesTheDecoder(Correct):
    """f is added once for itself and once for its value."""

    def forward(self, objective):
        z, f = self.draw(objective)
        return score_function_surrogate(objective, z, f, f - leave_one_out_mean(f)) + f.mean(0)


class LosesTheDecoder(Correct):
    """f is detached as a whole."""

    def forward(self, objective):
        z, f = self.draw(objective)
        f = f.detach()
        return score_function_surrogate(objective, z, f, f - leave_one_out_mean(f))


class SumsOverTheBatch(Correct):
    """The signal is that of the whole batch: unbiased, and B times as noisy."""

    def forward(self, objective):
        z, f = self.draw(objective)
        signal = (f - leave_one_out_mean(f)).sum(-1, keepdim=True)
        return score_function_surrogate(objective, z, f, signal.expand_as(f))


class MovesInEval(Correct):
    """A moving average that moves whenever it is used; it is subtracted before."""

    def __init__(self, options=None):
        super().__init__(options)
        self.register_buffer("average", torch.zeros((), dtype=torch.float64))

    def forward(self, objective):
        z, f = self.draw(objective)
        surrogate = score_function_surrogate(objective, z, f, f - self.average.to(f.dtype))
        self.average.mul_(0.9).add_(0.1 * f.detach().mean())
        return surrogate


class SeesItsSample(MovesInEval):
    """A moving average that is subtracted after it has taken the sample in; in training alone."""

    def forward(self, objective):
        z, f = self.draw(objective)
        if self.training:
            self.average.mul_(0.9).add_(0.1 * f.detach().mean())
        return score_function_surrogate(objective, z, f, f - self.average.to(f.dtype))


class HidesItsState(Correct):
    """State that is neither buffer nor parameter: it is not saved."""

    average = 0.0

    def forward(self, objective):
        z, f = self.draw(objective)
        surrogate = score_function_surrogate(objective, z, f, f - self.average)
        if self.training:
            self.average = 0.9 * self.average + 0.1 * float(f.detach().mean())
        return surrogate


class SharesItsNoise(Correct):
    """One draw for all replicates and examples."""

    supports = frozenset({"normal"})
    evaluations = 1

    def forward(self, objective):
        noise = torch.randn(1, *objective.q.event_shape, dtype=objective.params["loc"].dtype)
        z = (objective.q.mean + objective.q.stddev * noise).detach()[None]
        f = objective.f(z, objective.frozen_q())
        return score_function_surrogate(objective, z, f, f)


class FlattensReplicates(Correct):
    """Right in training, where there are no replicates."""

    def forward(self, objective):
        return super().forward(objective).flatten()


class AveragesReplicates(Correct):
    """One number for the batch in place of one for each example."""

    def forward(self, objective):
        return super().forward(objective).mean()


class UndercountsF(Correct):
    """Declares half of the calls that it makes."""

    evaluations = 2


class NeedsNoF(Correct):
    """Declares to need the derivative of f, and does not."""

    needs_differentiable_f = True


class Pathwise(Correct):
    """Declares to need no derivative of f, and does."""

    supports = frozenset({"normal"})
    evaluations = 1

    def forward(self, objective):
        return objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()


class ClaimsABias(Correct):
    """Declares a bias that it does not have."""

    unbiased = False


class Doubles(Correct):
    """Makes double-precision noise, whatever the model's."""

    supports = frozenset({"normal"})
    evaluations = 1

    def forward(self, objective):
        noise = torch.randn(1, *objective.q.batch_shape, *objective.q.event_shape, dtype=torch.float64)
        z = (objective.q.mean + objective.q.stddev * noise).detach()
        f = objective.f(z, objective.frozen_q())
        return score_function_surrogate(objective, z, f, f)


class PlacesMatter(Correct):
    """The first example of a batch has its gradient scaled up, the last one's scaled down."""

    def forward(self, objective):
        z, f = self.draw(objective)
        scale = torch.linspace(1.2, 0.8, f.shape[-1], dtype=f.dtype)
        return score_function_surrogate(objective, z, f, (f - leave_one_out_mean(f)) * scale)


class Raises(Correct):
    """Fails as it is called."""

    def forward(self, objective):
        raise ValueError("no such luck")


class DetachedRebar(Correct):
    """REBAR whose v' is detached: the gradient of f at the conditional sample is lost."""

    supports = frozenset({"bernoulli"})
    needs_differentiable_f = True
    evaluations = 3
    attached = False

    def forward(self, objective):
        logits = objective.params["logits"]
        z = logistic_perturbed(logits, (1,))
        bits = (z > 0).to(logits.dtype)
        v, theta = open_uniform(bits), logits.sigmoid()
        v = torch.where(bits.bool(), v * theta + (1 - theta), v * (1 - theta))
        conditional = logits + (v if self.attached else v.detach()).logit()
        f = objective.f(bits, objective.frozen_q())
        relaxed, tied = (objective.f((each / 0.5).sigmoid(), objective.frozen_q()) for each in (z, conditional))
        variate = relaxed - tied
        # The relaxed terms bring the gradient of the logits alone: the decoder's is that of f at the bits.
        (gradient,) = torch.autograd.grad(variate.sum(), logits, retain_graph=True)
        pathwise = (gradient.detach() * logits).sum(-1)
        return score_function_surrogate(objective, bits, f, f - tied) + pathwise


class Rebar(DetachedRebar):
    """The same without the defect."""

    attached = True


class StickingTheLandingIWAE(Correct):
    """The path gradient of the multi-sample bound without the score term, declared unbiased."""

    supports = frozenset({"normal"})
    bounds = frozenset({"multi-sample"})
    needs_differentiable_f = True
    evaluations = "K"

    def count_evaluations(self, objective):
        return objective.importance_samples

    def forward(self, objective):
        z = objective.q.rsample((objective.importance_samples,))
        return objective.log_weight(z, objective.frozen_q()).logsumexp(0)
