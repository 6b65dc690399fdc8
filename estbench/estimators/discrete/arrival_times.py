"""Relaxed counts: the arrivals before time 1, each with a soft threshold."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("arrival-times")
class ArrivalTimes(Estimator):
    r"""Relaxed Poisson counts by their arrival times (Vafaii, Galor and Yates, 2024, arXiv:2405.14473).

        t_k = (E_1 + ... + E_k) / rate,   E_j ~ Exp(1):   z = sum_k 1[t_k < 1] ~ Poisson(rate)
        relaxed                                           z' = sum_k sigmoid((1 - t_k) / temperature)

    The times between the arrivals of a Poisson process are exponential, so z counts those before time 1. z' is
    differentiable in the rate: a smaller temperature brings it nearer to z and makes the gradient noisier. f is
    evaluated at z', between the counts. It is biased, also in the decoder's gradient.

    With ``hard``, f is evaluated at the count z itself, and the gradient is that at z with the path of z'
    (straight-through): the decoder's gradient is then exact.

    ``arrivals`` times are drawn, so a count is at most that many: choose it well above the largest rate. If it is not,
    the bias is larger.

    Requires Poisson latents, and f with its derivative in z, between the counts unless ``hard``.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("poisson_toy")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("arrival-times")(objective).mean().backward()
    >>> problem.log_rate.grad.round()  # the exact gradient is 2, and there is a bias
    tensor([2.])
    """

    summary = "relaxed Poisson counts by their arrival times, with a temperature; or hard counts with that path"
    reference = "vafaii2024"
    supports = frozenset({"poisson"})
    unbiased = False
    needs_differentiable_f = True
    scheduled = frozenset({"temperature"})
    variants = ("arrival-times[hard=true]",)

    class Options(BaseOptions):
        """Options of ``arrival-times``."""

        num_samples: int = Field(default=1, ge=1, description="S, the samples of each example")
        temperature: float = Field(default=0.1, gt=0, description="of the soft threshold, in units of the window")
        arrivals: int = Field(default=50, ge=1, description="the arrivals that are drawn, and the largest count")
        hard: bool = Field(default=False, description="whether f is evaluated at counts, and not between them")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        log_rate = objective.params["log_rate"]
        like = log_rate.new_empty(self.options.arrivals, self.options.num_samples, *log_rate.shape)
        times = like.exponential_().cumsum(0) * (-log_rate).exp()
        relaxed = ((1 - times) / self.options.temperature).sigmoid().sum(0)
        z = (times < 1).to(relaxed).sum(0) + (relaxed - relaxed.detach()) if self.options.hard else relaxed
        return objective.f(z, objective.frozen_q()).mean(0) - objective.kl()
