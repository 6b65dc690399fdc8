"""Gamma, beta, Dirichlet and Student t latents: torch draws them by implicit reparameterization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Distribution, Gamma, StudentT

from estbench.latents.base import Latents, independent

IMPLICIT = frozenset({"gamma", "beta", "dirichlet", "student-t"})


class GammaLatents(Latents):
    """D independent gammas, from ``log_concentration`` and ``log_rate``, (*B, D) each; zeros are Exp(1).

    Parameters
    ----------
    size
        D, the number of latents.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import GammaLatents
    >>> latents = GammaLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'log_concentration': (5, 3), 'log_rate': (5, 3)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 3])
    """

    name = "gamma"

    def __init__(self, size: int) -> None:
        self.outputs, self.inputs = 2 * size, size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        log_concentration, log_rate = outputs.chunk(2, dim=-1)
        return {"log_concentration": log_concentration, "log_rate": log_rate}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Gamma(params["log_concentration"].exp(), params["log_rate"].exp(), validate_args=False))


class BetaLatents(Latents):
    """D independent betas, from ``log_alpha`` and ``log_beta``, (*B, D) each; zeros are uniform on (0, 1).

    Parameters
    ----------
    size
        D, the number of latents.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import BetaLatents
    >>> latents = BetaLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'log_alpha': (5, 3), 'log_beta': (5, 3)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 3])
    """

    name = "beta"

    def __init__(self, size: int) -> None:
        self.outputs, self.inputs = 2 * size, size

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        log_alpha, log_beta = outputs.chunk(2, dim=-1)
        return {"log_alpha": log_alpha, "log_beta": log_beta}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Beta(params["log_alpha"].exp(), params["log_beta"].exp(), validate_args=False))


class DirichletLatents(Latents):
    """D independent points of the simplex with C corners, from ``log_concentration`` of (*B, D, C); zeros are uniform.

    A sample has shape (*B, D, C).

    Parameters
    ----------
    size
        D, the number of points.
    categories
        C, at least 2.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import DirichletLatents
    >>> latents = DirichletLatents(2, categories=4)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'log_concentration': (5, 2, 4)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 8])
    """

    name = "dirichlet"

    def __init__(self, size: int, categories: int) -> None:
        self.shape = (size, categories)
        self.outputs = self.inputs = size * categories

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"log_concentration": outputs.view(*outputs.shape[:-1], *self.shape)}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        return independent(Dirichlet(params["log_concentration"].exp(), validate_args=False))

    def flat(self, z: Tensor) -> Tensor:
        return z.flatten(-2)


class StudentTLatents(Latents):
    """D independent Student t, from ``log_excess_df``, ``loc`` and ``log_scale``, (*B, D) each.

    The degrees of freedom are 2 + exp(log_excess_df), so that the variance is finite; zeros are the t with 3. The KL
    divergence of two of them has no closed form: ``kl`` raises ``NotImplementedError``.

    Parameters
    ----------
    size
        D, the number of latents.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import StudentTLatents
    >>> latents = StudentTLatents(3)
    >>> params = latents.split(torch.zeros(5, latents.outputs))
    >>> {name: tuple(value.shape) for name, value in params.items()}
    {'log_excess_df': (5, 3), 'loc': (5, 3), 'log_scale': (5, 3)}
    >>> latents.flat(latents.family(params).sample()).shape  # what a decoder takes
    torch.Size([5, 3])
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
        return independent(UncheckedStudentT(df, params["loc"], params["log_scale"].exp()))

    def kl(self, q: Mapping[str, Tensor], p: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError("the KL divergence of two Student t has no closed form: sample it")


class UncheckedStudentT(StudentT):
    """A Student t with torch's samples, of parameters of one shape, without checks of them, which wait for a device."""

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor) -> None:
        self.df, self.loc, self.scale = df, loc, scale
        self._chi2: Gamma = Gamma(0.5 * df, torch.full_like(df, 0.5), validate_args=False)  # type: ignore[assignment]
        Distribution.__init__(self, df.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> UncheckedStudentT:
        """Return the distribution with another batch shape, as torch does."""
        new = self._get_checked_instance(UncheckedStudentT, _instance)  # type: ignore[no-untyped-call]
        return super().expand(batch_shape, new)  # type: ignore[no-untyped-call, no-any-return]
