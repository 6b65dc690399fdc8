"""Finite differences in random directions of the variational parameters, without f's gradient or q's density."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from estbench.estimators.base import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


def central_differences(objective: Objective, directions: dict[str, Tensor], step: float) -> Tensor:
    r"""Return a surrogate with the gradient (1/S) sum_s (F(phi + c e_s) - F(phi - c e_s)) e_s / (2 c), (*batch).

    F(phi) = f(mu + exp(log s) eps): both sides share their noise eps (common random numbers). ``directions`` holds e by
    the names of the parameters, (S, *batch, D) each; ``step`` is c. The analytic KL is known exactly and left out of
    the differences. Neither side is a draw from q, so a third evaluation, at phi itself and with the same noise,
    carries the decoder's gradient.
    """
    loc, log_scale = (objective.params[name].detach() for name in ("loc", "log_scale"))
    noise = torch.randn_like(directions["loc"])

    def f(c: float) -> Tensor:
        scale = (log_scale + c * directions["log_scale"]).exp()
        return objective.f(loc + c * directions["loc"] + scale * noise, objective.frozen_q())

    with torch.no_grad():
        derivative = (f(step) - f(-step)) / (2 * step)
    linear = [(derivative[..., None] * e * objective.params[name]).sum(-1) for name, e in directions.items()]
    return (f(0) + torch.stack(linear).sum(0)).mean(0) - objective.kl()


def normal_directions(objective: Objective, count: int) -> dict[str, Tensor]:
    """Return standard normal directions by the names of the parameters, (S, *batch, D) each."""
    return {
        name: torch.randn(count, *value.shape, dtype=value.dtype, device=value.device)
        for name, value in objective.params.items()
    }


@register("es")
class EvolutionStrategies(Estimator):
    r"""Antithetic evolution strategies on the variational parameters (Salimans et al., 2017, arXiv:1703.03864).

        g = (F(phi + c e) - F(phi - c e)) e / (2 c),   e ~ N(0, I),   F(phi) = f(mu + s eps)

    An unbiased estimate of the gradient of the *smoothed* objective E_e[E_{q(phi + c e)} f], and so biased by O(c^2)
    for L itself. The KL is not smoothed: it is analytic or, as -log q within f, held at phi. The noise is that of a
    directional derivative: it grows with the number of parameters. A third evaluation, at phi, is for the decoder.

    Requires normal latents, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("es")(objective).mean().backward()
    >>> problem.loc.grad.round()  # the exact gradient is -1
    tensor([-1.])
    """

    summary = "finite difference of f in a normal direction of the variational parameters"
    reference = "salimans2017"
    supports = frozenset({"normal"})
    unbiased = False
    needs_differentiable_f = False

    class Options(BaseOptions):
        """Options of ``es``."""

        step: float = Field(default=0.2, gt=0, description="c, in units of the mean and of the log-scale")
        num_samples: int = Field(default=1, ge=1, description="S, the directions of each example")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = 3 * self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        directions = normal_directions(objective, self.options.num_samples)
        return central_differences(objective, directions, self.options.step)


@register("spsa")
class SPSA(Estimator):
    r"""Simultaneous perturbation stochastic approximation (Spall, 1992).

        g_i = (F(phi + c e) - F(phi - c e)) / (2 c e_i),   e_i = +1 or -1,   F(phi) = f(mu + s eps)

    As ``es``, with signs for directions: e_i = 1 / e_i, and every direction has the same length, which removes some of
    the noise. Biased by O(c^2) too.

    Requires normal latents, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(10_000, 1))  # independent copies of the toy
    >>> estimators.create("spsa")(objective).mean().backward()
    >>> problem.loc.grad.round()  # the exact gradient is -1
    tensor([-1.])
    """

    summary = "finite difference of f in a direction of random signs of the variational parameters"
    reference = "spall1992"
    supports = frozenset({"normal"})
    unbiased = False
    needs_differentiable_f = False

    class Options(BaseOptions):
        """Options of ``spsa``."""

        step: float = Field(default=0.35, gt=0, description="c, in units of the mean and of the log-scale")
        num_samples: int = Field(default=1, ge=1, description="S, the directions of each example")

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.evaluations = 3 * self.options.num_samples

    def forward(self, objective: Objective) -> Tensor:
        normal = normal_directions(objective, self.options.num_samples)
        directions = {name: direction.sign() for name, direction in normal.items()}
        return central_differences(objective, directions, self.options.step)
