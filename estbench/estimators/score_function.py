"""Score-function gradients of any latents, without a derivative of f; and a control that leaves the score out."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from estbench.estimators._baselines import Baseline, ExponentialMovingAverage, InputDependent, Optimal, Zero
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions, refuse_without_effect
from estbench.problems import Objective


def leave_one_out_mean(f: Tensor) -> Tensor:
    """Return the mean over the *other* samples, (S, *batch) to (S, *batch): independent of the sample itself."""
    return (f.sum(0) - f) / (f.shape[0] - 1)


def group_advantage(f: Tensor, *, standardise: bool) -> Tensor:
    """Return f less its mean over all samples, and over their deviation if asked: (S, *batch) to (S, *batch).

    Equal values of f give exactly zero; rounding in the mean would otherwise be divided by rounding in the deviation.
    """
    deviation = f - f[0]
    deviation = deviation - deviation.mean(0)
    if not standardise:
        return deviation
    spread = deviation.square().sum(0) / (len(f) - 1)
    return torch.where(spread > 0, deviation / spread.clamp(min=torch.finfo(f.dtype).tiny).sqrt(), 0.0)


def score_function_surrogate(objective: Objective, z: Tensor, f: Tensor, signal: Tensor) -> Tensor:
    """Return f + sg(signal) log q(z), averaged over samples, less the analytic KL: (S, *batch) to (*batch).

    The first term carries the gradient of the model's own weights, the second the score-function gradient.
    """
    return (f + signal.detach() * objective.q.log_prob(z)).mean(0) - objective.kl()


@register("reinforce")
class Reinforce(Estimator):
    r"""Score-function gradient (Williams, 1992), with a choice of baseline.

        grad E_q[f(z)] = E_q[(f(z) - b) grad log q(z)]   for any b that does not depend on z

    ``baseline=none`` takes b = 0. ``ema`` is a moving average of past values of f. ``nvil`` adds a network of the
    input to it (Mnih and Gregor, 2014, arXiv:1402.0030), trained to predict f. Both are state from *before* the step:
    a baseline that depends on the sample would bias the estimate. ``optimal`` is the scalar of least variance,
    estimated for each example from ``baseline_draws`` separate draws.

    ``normalise`` is the other half of NVIL: (f - b) / max(1, sd), with sd^2 a moving average of past (f - b)^2; in the
    first step there is none, and no gradient either. An analytic KL is divided too (with the weights of a learned
    prior): otherwise it would weigh sd times too much. The mean has the gradient's direction and not its length, so
    this is declared biased. Multiply its variance by sd^2 to compare it with that of others.

    ``group`` is the mean of the example's own S samples, of which the sample is one, and so biased:

        E[(1/S) sum_s (f_s - fbar) grad log q(z_s)] = (1 - 1/S) grad E_q[f]

    The leave-one-out baseline of ``rloo`` gives S/(S-1) times as much, draw by draw. ``standardise`` divides by the
    deviation of these samples (with S - 1), which is GRPO (Shao et al., 2024, arXiv:2402.03300); without it, the
    baseline is that of Dr. GRPO (Liu et al., 2025, arXiv:2503.20783). The deviation is noise that depends on the
    samples, and another one for each example, so the direction changes too. A group of equal values gives no gradient,
    and nothing is added to the deviation. An analytic KL is not divided, as in GRPO.

    Requires samples of q and their density, and only values of f. ``nvil`` also requires ``Objective.context``, and
    a call of ``prepare`` before use; it raises ``EstbenchError`` without either.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("reinforce[baseline=ema]")(objective).mean().backward()
    >>> problem.loc.grad.round()  # the exact gradient is -1
    tensor([-1.])
    """

    summary = "score function, with baseline none, ema, nvil, optimal or group (biased)"
    reference = "williams1992"
    supports = frozenset({"any"})
    unbiased = True
    needs_differentiable_f = False
    variants = (
        "reinforce[num_samples=3]",
        "reinforce[baseline=ema]",
        "reinforce[baseline=nvil]",
        "reinforce[baseline=nvil,normalise=true]",
        "reinforce[baseline=optimal]",
        "reinforce[baseline=group,num_samples=4]",
        "reinforce[baseline=group,num_samples=4,standardise=true]",
    )

    class Options(BaseOptions):
        """Options of ``reinforce``."""

        added: ClassVar = frozenset({"standardise"})
        num_samples: int = Field(default=1, ge=1, description="S, the samples of each example")
        baseline: Literal["none", "ema", "nvil", "optimal", "group"] = Field(
            default="none",
            description="b: zero, a moving average, one with a network of the input, the best scalar, or the mean of"
            " the samples",
        )
        decay: float = Field(default=0.9, ge=0, lt=1, description="of the moving averages; for baseline=ema and nvil")
        hidden: int = Field(default=100, ge=1, description="hidden units of the network; for baseline=nvil")
        normalise: bool = Field(default=False, description="whether f - b is divided by its size; for baseline=nvil")
        baseline_draws: int = Field(
            default=10, ge=1, description="the draws that the best scalar is estimated from; for baseline=optimal"
        )
        standardise: bool = Field(
            default=False, description="whether f - b is divided by the samples' deviation; for baseline=group"
        )

        @model_validator(mode="after")
        def _applicable(self) -> Reinforce.Options:
            if self.baseline == "group" and self.num_samples == 1:
                raise ValueError("baseline=group is the mean of several samples; set num_samples to 2 or more")
            owners = {
                "decay": {"ema", "nvil"},
                "hidden": {"nvil"},
                "normalise": {"nvil"},
                "baseline_draws": {"optimal"},
                "standardise": {"group"},
            }
            choice = f"baseline={self.baseline}"
            refuse_without_effect(
                self, {option: "" if self.baseline in baselines else choice for option, baselines in owners.items()}
            )
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.unbiased = not self.options.normalise and self.options.baseline != "group"
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
        if self.options.baseline == "group":
            signal = group_advantage(f.detach(), standardise=self.options.standardise)
        else:
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
            # Ascent of -signal^2 / 2 fits a learned baseline to f. It has no other gradient: f is detached in it.
            surrogate = surrogate - 0.5 * signal.square().mean(0)
        return surrogate

    def _scale(self, objective: Objective) -> Tensor | float:
        if self.spread is None:
            return 1.0
        # No gradient in the first step: one as large as f would stay in the optimiser's memory for hundreds of steps.
        spread = self.spread(objective).sqrt()
        return torch.where(spread > 0, 1 / spread.clamp(min=1), 0.0)


@register("rloo")
class RLOO(Estimator):
    r"""REINFORCE with a leave-one-out baseline (Kool, van Hoof and Welling, 2019; Salimans and Knowles, 2014).

        grad E_q[f] ~ (1/S) sum_s (f(z_s) - 1/(S-1) sum_{j != s} f(z_j)) grad log q(z_s)

    The other samples estimate the mean of f for the same example: no state, nothing to tune.

    Requires samples of q and their density, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("rloo[num_samples=4]")(objective).mean().backward()
    >>> problem.loc.grad.round()  # the exact gradient is -1
    tensor([-1.])
    """

    summary = "score function, each sample's baseline being the mean of the others"
    reference = "kool2019"
    supports = frozenset({"any"})
    unbiased = True
    needs_differentiable_f = False
    variants = ("rloo[num_samples=4]",)

    class Options(BaseOptions):
        """Options of ``rloo``."""

        num_samples: int = Field(default=2, ge=2, description="S, the samples of each example")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((self.options.num_samples,))
        f = objective.f(z, objective.frozen_q())
        return score_function_surrogate(objective, z, f, f - leave_one_out_mean(f))


@register("detached")
class Detached(Estimator):
    r"""Negative control: z is sampled, no gradient passes through it, and no score takes its place.

        z ~ q_phi,   surrogate = f(sg(z)) - KL(q_phi || p)

    The decoder learns as usual, the encoder only from the KL, as if the reconstruction did not depend on it. This is
    the problem that the score function and the reparameterization trick solve. With a sampled KL the encoder has only
    -log q_phi(z) in f, whose gradient has mean zero.

    Requires samples of q, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> estimators.create("detached")(problem(torch.zeros(5, 1))).mean().backward()
    >>> problem.loc.grad.abs()  # the exact gradient is -1
    tensor([0.])
    """

    summary = "no gradient through the sample: the encoder learns from the KL alone (negative control)"
    reference = None
    supports = frozenset({"any"})
    unbiased = False
    needs_differentiable_f = False
    evaluations = 1

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((1,))
        return objective.f(z).mean(0) - objective.kl()
