"""Leave-one-out with two control variates from the gradient of f at the other samples."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from estbench.estimators._surrogates import gradient_surrogate, value_and_grad, variance_loss
from estbench.estimators.base import Estimator, register
from estbench.estimators.score_function import leave_one_out_mean
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("double-cv")
class DoubleCV(Estimator):
    r"""Double control variates (Titsias and Shi, 2022, arXiv:2111.05300).

        h_s = (mean_{r != s} f'(b_r)) . (b_s - theta),   F_s = f(b_s) - alpha h_s
        grad E_q[f] ~ (1/S) sum_s (F_s - mean_{r != s} F_r) (b_s - theta) + alpha theta (1 - theta) (1/S) sum_s f'(b_s)

    One control variate for the sample, one for its leave-one-out baseline; the last term corrects for their
    expectation. Unbiased for any alpha, which learns to make the variance small. alpha = 1 removes the linear part of
    f, alpha = 0 is ``rloo``.

    Requires bits, and the derivative of f at zeros and ones.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("double-cv")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "leave-one-out on f less a linear expansion, whose slope comes from the other samples"
    reference = "titsias2022"
    supports = frozenset({"bernoulli"})
    unbiased = True
    needs_differentiable_f = True

    class Options(BaseOptions):
        """Options of ``double-cv``."""

        num_samples: int = Field(default=2, ge=2, description="S, the samples of each example")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples
        self.alpha = nn.Parameter(torch.tensor(1.0))

    def forward(self, objective: Objective) -> Tensor:
        theta = objective.params["logits"].detach().sigmoid()
        bits = objective.q.sample((self.options.num_samples,))
        f, f_gradient = value_and_grad(objective, bits)
        linear = (leave_one_out_mean(f_gradient) * (bits - theta)).sum(-1)
        signal = f.detach() - self.alpha * linear
        signal = signal - leave_one_out_mean(signal)
        gradient = (signal[..., None] * (bits - theta)).mean(0) + self.alpha * theta * (1 - theta) * f_gradient.mean(0)
        surrogate = gradient_surrogate(objective, f, gradient)
        if self.training:
            surrogate = surrogate + variance_loss([gradient], self.parameters(), objective.batch_shape)
        return surrogate
