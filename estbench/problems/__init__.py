"""Problems: data and models that yield an objective for each minibatch."""

from importlib import import_module
from pkgutil import iter_modules

from estbench.problems.bernoulli_toy import variance as bernoulli_toy_variance
from estbench.problems.constructors import family_objective, joint_objective
from estbench.problems.gaussian_variances import variance as gaussian_toy_variance
from estbench.problems.linear_layers import LinearLayers
from estbench.problems.networks import Sizes, register_network
from estbench.problems.objective import DataIndex, Objective
from estbench.problems.parts import (
    Likelihood,
    Posterior,
    Prior,
    register_likelihood,
    register_posterior,
    register_prior,
)
from estbench.problems.problem import PARTS, PROBLEMS, Problem, create, describe, describe_part, names, register

# Every module in this folder registers its problem when it is imported.
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "PARTS",
    "PROBLEMS",
    "DataIndex",
    "Likelihood",
    "LinearLayers",
    "Objective",
    "Posterior",
    "Prior",
    "Problem",
    "Sizes",
    "bernoulli_toy_variance",
    "create",
    "describe",
    "describe_part",
    "family_objective",
    "gaussian_toy_variance",
    "joint_objective",
    "names",
    "register",
    "register_likelihood",
    "register_network",
    "register_posterior",
    "register_prior",
]
