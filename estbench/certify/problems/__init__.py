"""Small problems in double precision with known exact gradients, on which estimators are checked."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from estbench.certify.problems.base import SmallProblem
from estbench.certify.problems.continuous import CONTINUOUS
from estbench.certify.problems.counts import POISSON
from estbench.certify.problems.layers import LAYERED
from estbench.certify.problems.small import SMALL
from estbench.certify.problems.wide import WIDE
from estbench.estimators.requirements import families

__all__ = ["CONTINUOUS", "LAYERED", "POISSON", "SMALL", "WIDE", "SmallProblem", "small_problems_for"]


def small_problems_for(supports: AbstractSet[str], bounds: AbstractSet[str]) -> list[SmallProblem]:
    """Return the problems with such latents and objectives: at least four for each family of latents.

    ``supports`` and ``bounds`` are what an estimator declares under these names.
    """
    names = families(supports)
    return [
        problem
        for problem in (*SMALL, *CONTINUOUS, *POISSON, *WIDE, *LAYERED)
        if problem.latents.name in names and problem.bound in bounds
    ]
