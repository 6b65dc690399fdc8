"""Gamma, beta, Dirichlet and Student t latents: torch draws them by implicit reparameterization."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.distributions import Beta, Dirichlet, Distribution, Gamma, StudentT, kl_divergence

from estbench.latents.base import independent

IMPLICIT = frozenset({"gamma", "beta", "dirichlet", "student-t"})


class GammaLatents:
    """D independent gammas, from ``log_concentration`` and ``log_rate``, (*B, D) each; zeros are Exp(1)."""

    name = "gamma"
    closed_form_kl = True

    def __init__(self, size: int) -> None:
        self.outputs, self.inputs = 2 * size, size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        log_concentration, log_rate = outputs.chunk(2, dim=-1)
        return {"log_concentration": log_concentration, "log_rate": log_rate}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Gamma(params["log_concentration"].exp(), params["log_rate"].exp(), validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        return kl_divergence(self.family(q), self.family(p))

    def flat(self, z: Tensor) -> Tensor:
        return z


class BetaLatents:
    """D independent betas, from ``log_alpha`` and ``log_beta``, (*B, D) each; zeros are uniform on (0, 1)."""

    name = "beta"
    closed_form_kl = True

    def __init__(self, size: int) -> None:
        self.outputs, self.inputs = 2 * size, size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        log_alpha, log_beta = outputs.chunk(2, dim=-1)
        return {"log_alpha": log_alpha, "log_beta": log_beta}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Beta(params["log_alpha"].exp(), params["log_beta"].exp(), validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        return kl_divergence(self.family(q), self.family(p))

    def flat(self, z: Tensor) -> Tensor:
        return z


class DirichletLatents:
    """D independent points of the simplex with C corners, from ``log_concentration`` of (*B, D, C); zeros are uniform.

    A sample has shape (*B, D, C).
    """

    name = "dirichlet"
    closed_form_kl = True

    def __init__(self, size: int, categories: int) -> None:
        self.shape = (size, categories)
        self.outputs = self.inputs = size * categories

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"log_concentration": outputs.view(*outputs.shape[:-1], *self.shape)}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Dirichlet(params["log_concentration"].exp(), validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        return kl_divergence(self.family(q), self.family(p))

    def flat(self, z: Tensor) -> Tensor:
        return z.flatten(-2)


class StudentTLatents:
    """D independent Student t, from ``log_excess_df``, ``loc`` and ``log_scale``, (*B, D) each.

    The degrees of freedom are 2 + exp(log_excess_df), so that the variance is finite; zeros are the t with 3. Two of
    them have no KL divergence in closed form.
    """

    name = "student-t"
    closed_form_kl = False

    def __init__(self, size: int) -> None:
        self.outputs, self.inputs = 3 * size, size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        log_excess_df, loc, log_scale = outputs.chunk(3, dim=-1)
        return {"log_excess_df": log_excess_df, "loc": loc, "log_scale": log_scale}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        df = 2 + params["log_excess_df"].exp()
        return independent(StudentT(df, params["loc"], params["log_scale"].exp(), validate_args=False))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError("the KL divergence of two Student t has no closed form: sample it")

    def flat(self, z: Tensor) -> Tensor:
        return z
