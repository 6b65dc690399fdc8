"""Problems: data and models that yield an objective for each minibatch."""

from estbench.problems import vae as _vae  # noqa: F401  (registers vae)
from estbench.problems.objective import Objective
from estbench.problems.problem import REGISTRY, Problem, create, describe, names, register

__all__ = ["REGISTRY", "Objective", "Problem", "create", "describe", "names", "register"]
