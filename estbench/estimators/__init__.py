"""Estimators: each turns an objective into a surrogate whose gradient estimates the objective's."""

from importlib import import_module
from pkgutil import walk_packages

from estbench.estimators.base import (
    ESTIMATORS,
    Estimator,
    create,
    describe,
    make_ready,
    names,
    register,
    requires,
    surrogate_of,
)
from estbench.estimators.compatibility import check_for, check_supports
from estbench.estimators.per_latent import create_for
from estbench.references import BIBTEX

# Every module in this folder registers its family when it is imported.
for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "BIBTEX",
    "ESTIMATORS",
    "Estimator",
    "check_for",
    "check_supports",
    "create",
    "create_for",
    "describe",
    "make_ready",
    "names",
    "register",
    "requires",
    "surrogate_of",
]
