"""Estimators: each turns an objective into a surrogate whose gradient estimates the objective's."""

from estbench.estimators import pathwise as _pathwise  # noqa: F401  (registers detached, reparam, stl)
from estbench.estimators import score_function as _score_function  # noqa: F401  (registers reinforce, rloo)
from estbench.estimators.base import REGISTRY, Estimator, check_supports, create, describe, names, register
from estbench.references import BIBTEX

__all__ = ["BIBTEX", "REGISTRY", "Estimator", "check_supports", "create", "describe", "names", "register"]
