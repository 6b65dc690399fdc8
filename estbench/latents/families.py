"""Latents by the name of their family."""

from __future__ import annotations

from estbench.latents.base import Latents
from estbench.latents.bernoulli import BernoulliLatents
from estbench.latents.categorical import CategoricalLatents
from estbench.latents.full_normal import FullNormalLatents
from estbench.latents.implicit import BetaLatents, DirichletLatents, GammaLatents, StudentTLatents
from estbench.latents.normal import NormalLatents

FAMILY_NAMES = ("normal", "full-normal", "bernoulli", "categorical", "gamma", "beta", "dirichlet", "student-t")


def make_latents(family: str, size: int, categories: int = 10) -> Latents:
    """Return D latents of a family; of C categories, if it has any.

    Examples
    --------
    >>> from estbench.latents import make_latents
    >>> make_latents("categorical", 2, categories=4).outputs
    8
    """
    match family:
        case "normal":
            return NormalLatents(size)
        case "full-normal":
            return FullNormalLatents(size)
        case "bernoulli":
            return BernoulliLatents(size)
        case "categorical":
            return CategoricalLatents(size, categories)
        case "gamma":
            return GammaLatents(size)
        case "beta":
            return BetaLatents(size)
        case "dirichlet":
            return DirichletLatents(size, categories)
        case "student-t":
            return StudentTLatents(size)
        case _:
            raise ValueError(f"no family of latents '{family}'; there are {', '.join(FAMILY_NAMES)}")
