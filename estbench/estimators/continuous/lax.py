"""LAX: the score function with a learned function of the sample as the control variate."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators._control import check_prepared, control_network, control_value
from estbench.estimators._surrogates import gradient_carrier, variance_loss
from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("lax")
class Lax(Estimator):
    r"""LAX (Grathwohl, Choi, Wu, Roeder and Duvenaud, 2018, arXiv:1711.00123).

        grad E_q[f] = E[(f(z) - r_rho(z, x)) grad log q(z) + grad_phi r_rho(z(phi, eps), x)]

    The score function of what a network r does not explain of f, and the pathwise gradient of the network: both have
    the same mean for any r, because E[r grad log q] = grad E[r]. f needs no derivative; only r is differentiated. It is
    ``relax`` for latents whose sample is differentiable itself, so that neither a relaxation nor a second draw is
    needed. If r were f, it would be the pathwise gradient of f.

    The network sees z, and the input if there is one. It learns to make the variance of the estimate small, which takes
    a derivative of the estimate in its weights.

    Requires a differentiable sample of q (``rsample``) and its density, and only values of f; and a call of ``prepare``
    before use, without which it raises ``EstbenchError``.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimator = estimators.create("lax")
    >>> estimator.prepare(objective)  # builds its network
    >>> estimator(objective).mean().backward()
    >>> problem.loc.grad.round()  # the exact gradient is -1
    tensor([-1.])
    """

    summary = "score function, with a learned network of the sample as the control variate"
    reference = "grathwohl2018"
    supports = frozenset({"reparameterized"})
    unbiased = True
    needs_differentiable_f = False

    class Options(BaseOptions):
        """Options of ``lax``."""

        num_samples: int = Field(default=1, ge=1, description="S, the samples of each example")
        hidden: int = Field(default=100, ge=1, description="hidden units of the network")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def prepare(self, objective: Objective) -> None:
        self.network = control_network(objective, self.options.hidden)

    def forward(self, objective: Objective) -> Tensor:
        check_prepared(self, "lax")
        # Separate leaves: the network's gradient is taken only for them, and reaches neither encoder nor decoder.
        leaves = {name: value.detach().requires_grad_() for name, value in objective.params.items()}
        q = objective.build_q(leaves)
        z = q.rsample((self.options.num_samples,))
        fixed = z.detach()
        f = objective.f(fixed, objective.frozen_q())
        signal = f.detach() - control_value(self.network, objective, fixed)
        estimate = (signal * q.log_prob(fixed) + control_value(self.network, objective, z)).mean(0)
        gradients = torch.autograd.grad(estimate.sum(), list(leaves.values()), create_graph=self.training)
        surrogate = f.mean(0) - objective.kl()
        for value, gradient in zip(objective.params.values(), gradients, strict=True):
            surrogate = surrogate + gradient_carrier(value, gradient, value.dim() - len(objective.batch_shape))
        if self.training:
            surrogate = surrogate + variance_loss(gradients, self.parameters(), objective.batch_shape)
        return surrogate
