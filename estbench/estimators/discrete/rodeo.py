"""Leave-one-out with control variates from a discrete Stein operator."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from estbench.errors import EstbenchError
from estbench.estimators._surrogates import gradient_surrogate, value_and_grad, variance_loss
from estbench.estimators.base import Estimator, register
from estbench.estimators.score_function import leave_one_out_mean
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("rodeo")
class Rodeo(Estimator):
    r"""RODEO: REINFORCE leave-one-out with discrete Stein operators (Shi et al., 2022, arXiv:2202.09497).

    A step of Gibbs sampling leaves q as it is, so for any h, with b^i the sample b with its bit i flipped,

        (A h)(b) = (1/D) sum_i q(b^i_i) (h(b^i) - h(b)),   E_q[A h] = 0

    For sample s, h_s and g_s may depend on the other samples. They come from one network H of two numbers, f at another
    sample and its linear expansion towards y, and cost no evaluation of f:

        (h_s, g_s)(y) = mean_{r != s} H(f(b_r), f'(b_r) . (y - b_r))
        grad E_q[f] ~ (1/S) sum_s (f(b_s) - mean_{r != s} [f(b_r) + alpha (A h_r)(b_r)]) (b_s - theta)
                      + beta A(g_s(y) (y - theta))(b_s)

    alpha = beta = 0 is ``rloo``. They start close to it, at 0.01, so that the network has a gradient from the first
    step, and learn with it to make the variance small.

    Requires bits, and the derivative of f at zeros and ones; and a call of ``prepare`` before use, without which it
    raises ``EstbenchError``.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimator = estimators.create("rodeo")
    >>> estimator.prepare(objective)  # builds its network
    >>> estimator(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=2)  # the exact one is -0.16
    tensor([-0.1600])
    """

    summary = "leave-one-out, with learned control variates on the neighbours of each sample"
    reference = "shi2022"
    supports = frozenset({"bernoulli"})
    unbiased = True
    needs_differentiable_f = True

    class Options(BaseOptions):
        """Options of ``rodeo``."""

        num_samples: int = Field(default=2, ge=2, description="S, the samples of each example")
        hidden: int = Field(default=100, ge=1, description="hidden units of the network")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples
        self.alpha = nn.Parameter(torch.tensor(0.01))
        self.beta = nn.Parameter(torch.tensor(0.01))

    def prepare(self, objective: Objective) -> None:
        hidden = self.options.hidden
        network = nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(0.3), nn.Linear(hidden, 2))
        self.network = network.to(objective.params["logits"])

    def forward(self, objective: Objective) -> Tensor:
        if not hasattr(self, "network"):
            raise EstbenchError("rodeo has no network yet; call estimator.prepare(problem(x)) once, before use")
        theta = objective.params["logits"].detach().sigmoid()
        bits = objective.q.sample((self.options.num_samples,))
        f, f_gradient = value_and_grad(objective, bits)
        score, flip = bits - theta, 1 - 2 * bits
        here, there = self._surrogates(bits, f.detach(), f_gradient, flip)
        # The probability that Gibbs sampling flips a bit, (S, *B, D), is its distance from theta.
        difference = (bits - theta).abs()[..., None] * (there - here)
        baseline = f.detach() + self.alpha * difference[..., 0].mean(-1)
        # g(b^i) (b^i - theta) is g(b^i) (b - theta) except for coordinate i, where the flip adds to the score.
        vector = score * difference[..., 1].mean(-1, keepdim=True)
        vector = vector + score.abs() * there[..., 1] * flip / score.shape[-1]
        signal = f.detach() - leave_one_out_mean(baseline)
        gradient = (signal[..., None] * score + self.beta * vector).mean(0)
        surrogate = gradient_surrogate(objective, f, gradient)
        if self.training:
            surrogate = surrogate + variance_loss([gradient], self.parameters(), objective.batch_shape)
        return surrogate

    def _surrogates(self, bits: Tensor, f: Tensor, f_gradient: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        """Return (h, g) at each sample, (S, *B, 1, 2), and at its neighbours, (S, *B, D, 2)."""
        values = []
        for shift in range(1, len(bits)):
            other, other_f, other_gradient = (tensor.roll(shift, 0) for tensor in (bits, f, f_gradient))
            expansion = (other_gradient * (bits - other)).sum(-1, keepdim=True)
            at = torch.cat([expansion, expansion + other_gradient * flip], -1)
            values.append(self.network(torch.stack([other_f[..., None].expand_as(at), at], -1)))
        mean = torch.stack(values).mean(0)
        return mean[..., :1, :], mean[..., 1:, :]
