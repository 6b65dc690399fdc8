"""Second-order straight-through gradients: exact in the mean if f is quadratic in each latent."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor

from estbench.estimators._noise import (
    as_categorical_logits,
    from_one_hot,
    gumbel_perturbed_given_argmax,
    to_one_hot,
)
from estbench.estimators._surrogates import (
    gradient_carrier,
    softmax_jacobian,
    straight_through_surrogate,
    value_and_grad,
)
from estbench.estimators.base import Estimator, register
from estbench.estimators.discrete.gumbel_softmax import tangent_at
from estbench.estimators.score_function import leave_one_out_mean
from estbench.options import BaseOptions, refuse_without_effect
from estbench.problems import Objective


@register("reinmax")
class ReinMax(Estimator):
    r"""ReinMax: Heun's method in place of the Euler step of straight-through (Liu et al., 2023, arXiv:2304.08612).

        z ~ q,   p = softmax(eta),   r = (softmax(eta / tau) + z) / 2,   J(q) = diag q - q q'
        dz/deta := T(z),   T(z) = 2 J(r) - J(p) / 2

    At tau = 1 the mean is exact if f is quadratic in every latent, products of different latents included: then
    f(e_c) - f(e_k) = (e_c - e_k)' (g(e_c) + g(e_k)) / 2 for the gradient g of f. It is biased from the third order
    on. tau > 1 adds bias, mostly for less variance.

    **Less variance from several samples.** With ``num_samples`` = S the estimates are averaged. With
    ``control_variate=true`` the mean c_s of the other samples' gradients of f stands beside g_s: as E[T(z_s) c_s] is
    known, the mean is the same for every f,

        (1/S) sum_s T(z_s) (g_s - c_s) + E[T(z)] c_s,   E[T(z)] = J(p) at tau = 1

    and no noise is left where f is linear; where its gradient is another at every sample, it may cost. (A control
    variate of mean zero *given z*, such as a Gumbel-softmax gradient less its conditional mean, cannot help: T(z) g is
    a function of z, so it only adds its own variance. The ReinMax-CV of Wang and Bui, 2026, arXiv:2603.08257, is built
    from these two; it is not what is here.)

    **Rao-Blackwellisation.** With ``draws`` = M, J(r) becomes the Jacobian of Gumbel-softmax at the probabilities r,
    averaged over the noise given z, as in ``gumbel-rao`` (ReinMax-Rao: Wang and Bui, 2026, known here from their
    abstract and parts of their code):

        J(r) -> (1/M) sum_m J(y_m) / t,   y_m = softmax((log r + G_m) / t),   G_m ~ p(G | z = argmax(log r + G))

    with t the ``gumbel_temperature``. The noise is that of r's own Gumbel variables. T(z) without it has no noise given
    z, so this is another Jacobian with another mean, not the conditional mean of the old one. It is shorter: as t goes
    to 0, J(r) becomes (J(r) + (z - r) (z - r)') / 2, and the mean for a linear f is half of the exact gradient.

    Requires bits or categories, and the derivative of f at one-hot vectors.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("reinmax")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "second-order straight-through: exact on quadratics at temperature 1"
    reference = "liu2023"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    variants = ("reinmax[control_variate=true,num_samples=2]", "reinmax[draws=10]")

    class Options(BaseOptions):
        """Options of ``reinmax``."""

        temperature: float = Field(default=1.0, ge=1, description="tau, of the softmax in the Jacobian")
        num_samples: int = Field(default=1, ge=1, description="S, the samples of each example")
        control_variate: bool = Field(
            default=False, description="whether the other samples' gradients are a control variate (S of at least 2)"
        )
        draws: int = Field(default=0, ge=0, description="M, the draws of Gumbel noise given the sample; 0 for none")
        gumbel_temperature: float = Field(default=0.7, gt=0, description="t, of the softmax of that noise")
        added = frozenset({"num_samples", "control_variate", "draws", "gumbel_temperature"})

        @model_validator(mode="after")
        def _applicable(self) -> ReinMax.Options:
            alone = "num_samples=1" if self.num_samples == 1 else ""
            reasons = {
                "control_variate": alone or (f"draws={self.draws}" if self.draws else ""),
                "gumbel_temperature": "" if self.draws else "draws=0",
            }
            refuse_without_effect(self, reasons)
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples
        if self.options.draws:
            self.reference = "wang2026"  # type: ignore[misc]

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        z = objective.q.sample((self.options.num_samples,))
        hard = to_one_hot(objective, z)
        p, tempered = logits.softmax(-1), torch.softmax(logits / self.options.temperature, -1)
        second = 2 * self._jacobian_at((tempered + hard).detach() / 2, hard, logits)
        tangent = second - softmax_jacobian(p, logits) / 2
        if not self.options.control_variate:
            return straight_through_surrogate(objective, hard, tangent)
        f, gradient = value_and_grad(objective, z)
        others = leave_one_out_mean(gradient)
        own, mean = (from_one_hot(objective, each) for each in (tangent, mean_tangent(p, tempered, logits)))
        event_dims = len(objective.q.event_shape)
        carried = gradient_carrier(own, gradient - others, event_dims) + gradient_carrier(mean, others, event_dims)
        return (f + carried).mean(0) - objective.kl()

    def _jacobian_at(self, r: Tensor, hard: Tensor, logits: Tensor) -> Tensor:
        """Return a tensor with the Jacobian J(r) in the logits, or that of Gumbel-softmax at r given the sample."""
        if not self.options.draws:
            return softmax_jacobian(r, logits)
        noisy = gumbel_perturbed_given_argmax(r.log(), hard.expand(self.options.draws, *hard.shape))
        return tangent_at(noisy, logits, self.options.gumbel_temperature).mean(0)


def mean_tangent(p: Tensor, tempered: Tensor, logits: Tensor) -> Tensor:
    r"""Return a tensor with the Jacobian E[T(z)] in the logits, z ~ p; all are (..., C).

    With a = ``tempered`` and E[z z'] = diag p it is diag(a + p) - (a a' + a p' + p a' + diag p) / 2 - J(p) / 2.
    """
    p, a = p.detach(), tempered.detach()
    along_a, along_p = ((each * logits).sum(-1, keepdim=True) for each in (a, p))
    outer = a * along_a + a * along_p + p * along_a + p * logits
    return (a + p) * logits - outer / 2 - softmax_jacobian(p, logits) / 2


@register("zgr")
class ZGR(Estimator):
    r"""Zero-temperature limit of Gumbel-Rao (Shekhovtsov, 2023, PMLR 202:30931).

        z ~ q,   p = softmax(eta):   dz/deta := (J(p) + (z - p) (z - p)') / 2

    The average of straight-through and of the score function of f's linear part at z (DARN). A one-hot z has
    z z' = diag z, and so this is the Jacobian of ``reinmax`` at temperature 1 written another way: the same gradient,
    sample by sample, with the same exactness on quadratics, from two products fewer.

    Requires bits or categories, and the derivative of f at one-hot vectors.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("zgr")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "zero-temperature limit of Gumbel-Rao; equals reinmax at temperature 1"
    reference = "shekhovtsov2023"
    supports = frozenset({"bernoulli", "categorical"})
    unbiased = False
    needs_differentiable_f = True
    evaluations = 1

    def forward(self, objective: Objective) -> Tensor:
        logits = as_categorical_logits(objective)
        hard = to_one_hot(objective, objective.q.sample((1,)))
        p = logits.softmax(-1)
        score = (hard - p).detach()
        tangent = (softmax_jacobian(p, logits) + score * (score * logits).sum(-1, keepdim=True)) / 2
        return straight_through_surrogate(objective, hard, tangent)
