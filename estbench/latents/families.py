"""Latents by the name of their family."""

from __future__ import annotations

from collections.abc import Callable

from estbench.latents.base import Latents
from estbench.latents.bernoulli import BernoulliLatents
from estbench.latents.categorical import CategoricalLatents
from estbench.latents.full_normal import FullNormalLatents
from estbench.latents.implicit import BetaLatents, DirichletLatents, GammaLatents, StudentTLatents
from estbench.latents.normal import NormalLatents
from estbench.latents.poisson import PoissonLatents
from estbench.latents.weibull import WeibullLatents

_OF_SIZE: dict[str, Callable[[int], Latents]] = {
    each.name: each
    for each in (
        NormalLatents,
        FullNormalLatents,
        BernoulliLatents,
        GammaLatents,
        BetaLatents,
        StudentTLatents,
        PoissonLatents,
        WeibullLatents,
    )
}
_OF_CATEGORIES: dict[str, Callable[[int, int], Latents]] = {
    each.name: each for each in (CategoricalLatents, DirichletLatents)
}
FAMILY_NAMES = (*_OF_SIZE, *_OF_CATEGORIES)


def make_latents(family: str, size: int, categories: int = 10) -> Latents:
    """Return D latents of a family of ``FAMILY_NAMES``; of C categories, if it has any.

    Examples
    --------
    >>> from estbench.latents import make_latents
    >>> make_latents("categorical", 2, categories=4).outputs
    8
    """
    return _OF_SIZE[family](size) if family in _OF_SIZE else _OF_CATEGORIES[family](size, categories)
