"""Eight schools: a hierarchical posterior in two parametrizations, with moments by quadrature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from estbench.datasets import Dataset
from estbench.latents import NormalLatents
from estbench.options import BaseOptions
from estbench.problems.objective import Objective
from estbench.problems.problem import Problem, register

# The effects of coaching in eight schools, and their standard errors: Rubin (1981), table 1.
EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
MU_SCALE, TAU_SCALE = 5.0, 5.0
SCHOOLS = len(EFFECTS)
# Rows of each split: independent copies of the one data set.
COPIES = 1000
# The grid of log tau: the density falls as exp(log tau) to the left, and as exp(-8 log tau) or faster to the right.
LOG_TAU = np.arange(-30.0, 15.0, 0.005)
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class PosteriorMoments(NamedTuple):
    """Moments of the latents under the posterior, (10,) each, and log p(y) in nats."""

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    log_evidence: float


@register("eight_schools")
class EightSchools(Problem):
    r"""The posterior of eight schools (Rubin, 1981; Gelman et al., Bayesian Data Analysis, section 5.5).

        mu ~ N(0, 5^2),   tau ~ half-Cauchy(5),   theta_j ~ N(mu, tau^2),   y_j ~ N(theta_j, s_j^2),   j = 1..8

    The latents are z = (mu, log tau, theta) if ``parametrization=centered``, and z = (mu, log tau, eta) with
    theta_j = mu + tau eta_j, eta ~ N(0, I), if it is ``noncentered``. q is a diagonal normal of z:

        L = E_q[log p(y|z) + log p(z) - log q(z)] <= log p(y)

    p(z) has the Jacobian of log tau. log p(y) is the same in both, but the bounds are not: in the centered one, tau
    is small where the theta are near each other, and no diagonal normal follows that. The KL is sampled.

    There are no images and no minibatches: the B examples of a step are independent copies of the one data set, and
    ``batch_size=1`` is a single estimate. All splits are the same.

    ``posterior_moments`` has the means and standard deviations of z under the posterior, and log p(y). Given tau,
    mu and theta are normal, so what is left is an integral over log tau, by the trapezoidal rule.

    Examples
    --------
    >>> import torch
    >>> from estbench import problems
    >>> problem = problems.create("eight_schools")
    >>> problem(torch.zeros(5, 1)).q.event_shape
    torch.Size([10])
    >>> reference = problem.posterior_moments()
    >>> print(round(reference.mean[0], 2), round(reference.sd[0], 2))  # of mu
    4.4 3.32
    """

    summary = "eight schools, centered or non-centered: a posterior with moments by quadrature"
    latents = "normal"

    class Options(BaseOptions):
        """Options of ``eight_schools``."""

        parametrization: Literal["noncentered", "centered"] = Field(
            default="noncentered", description="whether the effects of the schools are latents, or their deviations"
        )

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or EightSchools.Options()
        self.centered = self.options.parametrization == "centered"
        rows = np.zeros((COPIES, 1), np.float32)
        self.data = Dataset(self.name, rows, rows, rows, shape=(1, 1))
        self.effects: Tensor
        self.errors: Tensor
        self.register_buffer("effects", torch.tensor(EFFECTS))
        self.register_buffer("errors", torch.tensor(ERRORS))
        size = 2 + SCHOOLS
        self.family = NormalLatents(size)
        self.loc = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))

    @classmethod
    def card_of(cls, options: Any) -> str:
        return f"{cls.name}-v1-{options.parametrization}"

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        return intensities

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of q, once for each copy, (B, D)."""
        return {"loc": self.loc.expand(len(x), -1), "log_scale": self.log_scale.expand(len(x), -1)}

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        def log_likelihood(z: Tensor) -> Tensor:
            theta = z[..., 2:] if self.centered else z[..., :1] + z[..., 1:2].exp() * z[..., 2:]
            distance = (self.effects - theta) / self.errors
            return (-0.5 * distance.square() - self.errors.log() - HALF_LOG_2PI).sum(-1)

        shape = params["loc"].shape
        return Objective(
            params,
            self.family.family,
            log_likelihood,
            lambda: SchoolsPrior(params["loc"].new_zeros(shape), centered=self.centered),
            kl_weight=self.kl_weight,
        )

    def posterior_moments(self) -> PosteriorMoments:
        """Return the moments of z under the posterior, in float64."""
        return posterior_moments(centered=self.centered)


class SchoolsPrior(Distribution):
    """p(z) of the latents (mu, log tau, theta or eta), of the shape and precision of a tensor, (*R, B, 10)."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False

    def __init__(self, like: Tensor, *, centered: bool) -> None:
        self.like, self.centered = like, centered
        super().__init__(like.shape[:-1], like.shape[-1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(z), (*any, *R, B, 10) to (*any, *R, B), in nats."""
        mu, log_tau, effects = value[..., 0], value[..., 1], value[..., 2:]
        log_mu = -0.5 * (mu / MU_SCALE).square() - math.log(MU_SCALE) - HALF_LOG_2PI
        log_half_cauchy = math.log(2 / (math.pi * TAU_SCALE)) - torch.log1p((2 * (log_tau - math.log(TAU_SCALE))).exp())
        if self.centered:
            distance = (effects - mu[..., None]) * (-log_tau[..., None]).exp()
            log_effects = (-0.5 * distance.square() - HALF_LOG_2PI).sum(-1) - SCHOOLS * log_tau
        else:
            log_effects = (-0.5 * effects.square() - HALF_LOG_2PI).sum(-1)
        return log_mu + log_half_cauchy + log_tau + log_effects  # log_tau: the Jacobian

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws from p(z), (*sample_shape, *R, B, 10)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.like.dtype, device=self.like.device)
        tau = TAU_SCALE * torch.rand_like(noise[..., :1]).mul(math.pi / 2).tan()
        mu = MU_SCALE * noise[..., :1]
        effects = mu + tau * noise[..., 2:] if self.centered else noise[..., 2:]
        return torch.cat([mu, tau.log(), effects], dim=-1)


def posterior_moments(*, centered: bool) -> PosteriorMoments:
    r"""Return the moments of z under the posterior.

    With V_j = s_j^2 + tau^2, everything but tau is in closed form:

        mu | tau, y    ~ N(m, v),   1/v = 1/5^2 + sum_j 1/V_j,   m = v sum_j y_j / V_j
        log p(y|tau)   = log N(y; 0, diag V + 5^2 1 1^T)
        theta_j | mu, tau, y ~ N(mu + tau^2 (y_j - mu) / V_j, s_j^2 tau^2 / V_j)
        eta_j | mu, tau, y   ~ N(tau (y_j - mu) / V_j, s_j^2 / V_j)

    The weights of the grid of log tau are p(y|tau) p(tau) tau; means and variances are mixed with these weights.
    """
    tau = np.exp(LOG_TAU)[:, None]
    y, variances = np.array(EFFECTS), np.square(ERRORS)
    total = variances + tau**2  # (N, 8): V
    v = 1 / (1 / MU_SCALE**2 + (1 / total).sum(1))
    m = v * (y / total).sum(1)
    # The determinant and the inverse of a diagonal and a rank-one matrix.
    log_determinant = np.log(total).sum(1) + math.log(MU_SCALE**2) - np.log(v)
    log_likelihood = -0.5 * (log_determinant + (y**2 / total).sum(1) - m**2 / v) - SCHOOLS * HALF_LOG_2PI
    log_prior = math.log(2 / (math.pi * TAU_SCALE)) - np.log1p((tau[:, 0] / TAU_SCALE) ** 2) + LOG_TAU
    log_density = log_likelihood + log_prior
    largest = log_density.max()
    weights = np.exp(log_density - largest)
    step = LOG_TAU[1] - LOG_TAU[0]
    log_evidence = float(largest + math.log(weights.sum() * step))
    weights /= weights.sum()
    m, v = m[:, None], v[:, None]
    if centered:
        means, slopes, spreads = m + tau**2 * (y - m) / total, variances / total, variances * tau**2 / total
    else:
        means, slopes, spreads = tau * (y - m) / total, tau / total, variances / total
    given_tau = np.concatenate([m, LOG_TAU[:, None], means], axis=1)  # (N, 10)
    variance_given_tau = np.concatenate([v, np.zeros_like(v), spreads + slopes**2 * v], axis=1)
    mean = weights @ given_tau
    variance = weights @ (variance_given_tau + (given_tau - mean) ** 2)
    return PosteriorMoments(mean, np.sqrt(variance), log_evidence)
