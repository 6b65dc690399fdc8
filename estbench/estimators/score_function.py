"""Score-function gradients: they need no derivative of f, and pay for it with variance."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from estbench.estimators._baselines import Baseline, ExponentialMovingAverage, InputDependent, Optimal, Zero
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


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
    input to it (Mnih and Gregor, 2014, arXiv:1402.0030), trained to predict f. Both are state from *before* the step:
    a baseline that has seen the sample that it is subtracted from would bias the estimate. ``optimal`` is the scalar
    of least variance, estimated for each example from ``baseline_draws`` separate draws.

    ``normalise`` is the other half of NVIL: (f - b) / max(1, sd), with sd^2 a moving average of past (f - b)^2; in the
    first step there is none, and no gradient either. An analytic KL is divided alike (with the weights of a learned
    prior): left as it is, it would weigh sd times too much. The mean has the gradient's direction and not its length,
    so this is declared biased, and its variance compares with the others' only after multiplication by sd^2.
    """

    summary = "score function, with baseline none, ema, nvil or optimal"
    reference = "williams1992"
    supports = frozenset({"any"})  # a sample and its density, and nothing else
    unbiased = True
    needs_differentiable_f = False
    variants = (
        "reinforce[num_samples=3]",
        "reinforce[baseline=ema]",
        "reinforce[baseline=nvil]",
        "reinforce[baseline=nvil,normalise=true]",
        "reinforce[baseline=optimal]",
    )

    class Options(BaseOptions):
        """What may be chosen; of the baselines, each option after ``baseline`` belongs to some."""

        num_samples: Annotated[int, Field(ge=1)] = 1
        baseline: Literal["none", "ema", "nvil", "optimal"] = "none"
        decay: float = Field(default=0.9, ge=0, lt=1)
        hidden: Annotated[int, Field(ge=1)] = 100
        normalise: bool = False
        baseline_draws: Annotated[int, Field(ge=1)] = 10

        @model_validator(mode="after")
        def _applicable(self) -> Reinforce.Options:
            owners = {
                "decay": {"ema", "nvil"},
                "hidden": {"nvil"},
                "normalise": {"nvil"},
                "baseline_draws": {"optimal"},
            }
            for option, baselines in owners.items():
                changed = getattr(self, option) != type(self).model_fields[option].default
                if changed and self.baseline not in baselines:
                    raise ValueError(f"option '{option}' has no effect with baseline={self.baseline}; drop it")
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.unbiased = not self.options.normalise
        self.baseline: Baseline
        match self.options.baseline:
            case "ema":
                self.baseline = ExponentialMovingAverage(self.options.decay)
            case "nvil":
                self.baseline = InputDependent(self.options.decay, self.options.hidden)
            case "optimal":
                self.baseline = Optimal(self.options.baseline_draws)
            case _:
                self.baseline = Zero()
        self.evaluations = self.options.num_samples + self.baseline.evaluations
        self.spread = ExponentialMovingAverage(self.options.decay) if self.options.normalise else None

    def prepare(self, objective: Objective) -> None:
        self.baseline.prepare(objective)

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((self.options.num_samples,))
        f = objective.f(z, objective.frozen_q())
        signal = f.detach() - self.baseline(objective)
        scale = self._scale(objective)
        surrogate = score_function_surrogate(objective, z, f, scale * signal)
        if self.spread is not None:
            kl = objective.kl()
            surrogate = surrogate + (1 - scale) * (kl - kl.detach())
        if self.training:
            self.baseline.update(f.detach())
            if self.spread is not None:
                self.spread.update(signal.detach().square())
        if self.training and signal.requires_grad:
            # Ascending -signal^2 / 2 fits a learned baseline to f, and moves nothing else: f is detached in it.
            surrogate = surrogate - 0.5 * signal.square().mean(0)
        return surrogate

    def _scale(self, objective: Objective) -> Tensor | float:
        if self.spread is None:
            return 1.0
        # A first step as long as f is large would stay in the optimiser's memory for hundreds of steps.
        spread = self.spread(objective).sqrt()
        return torch.where(spread > 0, 1 / spread.clamp(min=1), 0.0)


@register("rloo")
class RLOO(Estimator):
    r"""REINFORCE with a leave-one-out baseline (Kool, van Hoof and Welling, 2019; Salimans and Knowles, 2014).

        grad E_q[f] ~ (1/S) sum_s (f(z_s) - 1/(S-1) sum_{j != s} f(z_j)) grad log q(z_s)

    The other samples estimate the mean of f for the very example at hand: no state, nothing to tune.
    """

    summary = "score function, each sample's baseline being the mean of the others"
    reference = "kool2019"
    supports = frozenset({"any"})  # a sample and its density, and nothing else
    unbiased = True
    needs_differentiable_f = False
    variants = ("rloo[num_samples=4]",)

    class Options(BaseOptions):
        """What may be chosen."""

        num_samples: Annotated[int, Field(ge=2)] = 2

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((self.options.num_samples,))
        f = objective.f(z, objective.frozen_q())
        return score_function_surrogate(objective, z, f, f - leave_one_out_mean(f))
