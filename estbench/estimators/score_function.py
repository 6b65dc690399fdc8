"""Score-function gradients: they need no derivative of f, and pay for it with variance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor

from estbench.estimators.base import Estimator, register
from estbench.estimators.baselines import Baseline, ExponentialMovingAverage, InputDependent, Zero
from estbench.problems import Objective
from estbench.validation import Options


def leave_one_out_mean(f: Tensor) -> Tensor:
    """Mean over the *other* samples, (S, *batch) to (S, *batch): independent of the sample at hand."""
    return (f.sum(0) - f) / (f.shape[0] - 1)


def score_function_surrogate(objective: Objective, z: Tensor, f: Tensor, signal: Tensor) -> Tensor:
    """f + sg(signal) log q(z), averaged over samples, less the analytic KL: (S, *batch) to (*batch).

    The first term carries the gradient of the model's own weights, the second the score-function gradient.
    """
    return (f + signal.detach() * objective.q.log_prob(z)).mean(0) - objective.kl()


@register("reinforce")
class Reinforce(Estimator):
    r"""Score-function gradient (Williams, 1992), with a choice of baseline.

        grad E_q[f(z)] = E_q[(f(z) - b) grad log q(z)]   for any b that does not depend on z

    ``baseline=none`` takes b = 0. ``ema`` is a moving average of past values of f. ``nvil`` adds a network of the
    input to it (Mnih and Gregor, 2014, arXiv:1402.0030), trained to predict f, without the variance normalisation
    that would rescale the gradient. Both are state from *before* the step: a baseline that has seen the sample that
    it is subtracted from would bias the estimate.
    """

    summary = "score function, with baseline none, ema or nvil"
    reference = "williams1992"
    supports = frozenset({"normal", "bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False

    class Options(Options):
        """What may be chosen; ``decay`` belongs to ``ema`` and ``nvil``, ``hidden`` to ``nvil``."""

        num_samples: Annotated[int, Field(ge=1)] = 1
        baseline: Literal["none", "ema", "nvil"] = "none"
        decay: float = Field(default=0.9, ge=0, lt=1)
        hidden: Annotated[int, Field(ge=1)] = 100

        @model_validator(mode="after")
        def _applicable(self) -> Reinforce.Options:
            for option, baselines in (("decay", {"ema", "nvil"}), ("hidden", {"nvil"})):
                changed = getattr(self, option) != type(self).model_fields[option].default
                if changed and self.baseline not in baselines:
                    raise ValueError(f"option '{option}' has no effect with baseline={self.baseline}; drop it")
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples
        self.baseline: Baseline
        match self.options.baseline:
            case "ema":
                self.baseline = ExponentialMovingAverage(self.options.decay)
            case "nvil":
                self.baseline = InputDependent(self.options.decay, self.options.hidden)
            case _:
                self.baseline = Zero()

    def prepare(self, objective: Objective) -> None:
        self.baseline.prepare(objective)

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((self.options.num_samples,))
        f = objective.f(z, objective.frozen_q())
        signal = f.detach() - self.baseline(objective)
        surrogate = score_function_surrogate(objective, z, f, signal)
        if self.training:
            self.baseline.update(f.detach())
        if self.training and signal.requires_grad:
            # Ascending -signal^2 / 2 fits a learned baseline to f, and moves nothing else: f is detached in it.
            surrogate = surrogate - 0.5 * signal.square().mean(0)
        return surrogate


@register("rloo")
class RLOO(Estimator):
    r"""REINFORCE with a leave-one-out baseline (Kool, van Hoof and Welling, 2019; Salimans and Knowles, 2014).

        grad E_q[f] ~ (1/S) sum_s (f(z_s) - 1/(S-1) sum_{j != s} f(z_j)) grad log q(z_s)

    The other samples estimate the mean of f for the very example at hand: no state, nothing to tune.
    """

    summary = "score function, each sample's baseline being the mean of the others"
    reference = "kool2019"
    supports = frozenset({"normal", "bernoulli", "categorical"})
    unbiased = True
    needs_differentiable_f = False

    class Options(Options):
        """What may be chosen."""

        num_samples: Annotated[int, Field(ge=2)] = 2

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((self.options.num_samples,))
        f = objective.f(z, objective.frozen_q())
        return score_function_surrogate(objective, z, f, f - leave_one_out_mean(f))
