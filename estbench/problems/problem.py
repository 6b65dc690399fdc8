"""What a problem is: data and a model that yield an objective for each minibatch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy

from estbench.datasets import DATASETS, Dataset, data_id
from estbench.errors import EstbenchError
from estbench.failures import mistakes_of
from estbench.options import BaseOptions
from estbench.problems.objective import Objective
from estbench.registry import Registry
from estbench.source import ships
from estbench.variant import Variant

# Examples that lazy modules are sized by.
EXAMPLES = 2


class Problem(nn.Module):
    """Base of all problems: encode an observation to variational parameters, then state the objective for them.

    The two steps are apart because a probe expands the parameters by a replicate dimension in between.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    name: ClassVar[str]
    summary: ClassVar[str]
    version: ClassVar[int] = 1
    layers: ClassVar[int] = 1  # stochastic ones; of two, each has an instance of the estimator
    latents: ClassVar[str] = "other"  # a family that q is then held to ("normal", "bernoulli", ...), or any other word
    data: Dataset

    @classmethod
    def latents_of(cls, options: Any) -> str:
        """The latents that a choice of options gives: a family that q is then held to, or any other word."""
        return cls.latents

    @classmethod
    def bound_of(cls, options: Any) -> str:
        """The objective that a choice of options gives: ``elbo``, or ``multi-sample`` for K > 1 importance samples."""
        return "elbo"

    @classmethod
    def card_of(cls, options: Any) -> str:
        """The versioned name of what bounds are bounds on: dataset, binarisation, split, and what changes the model.

        Bounds with different cards never stand in one table: the card is part of every cell's key. A class that does
        not ship and has an ``observe`` of its own stands by its name in place of the binarisation, because only its
        author knows what it does to the pixels; so does one with an ``objective`` of its own, behind all else.
        """
        dataset = getattr(options, "dataset", None)
        continuous = getattr(options, "likelihood", None) == "gaussian"
        seen = "continuous" if continuous else None
        of_model = [getattr(options, name) for name in ("latents", "prior", "coding") if hasattr(options, name)]
        if dataset is None:
            return "-".join(map(str, [cls.name, *of_model]))
        own = [cls.name] if not ships(cls.objective) else []
        return "-".join(map(str, [data_id(dataset, seen if ships(cls.observe) else cls.name), *of_model, *own]))

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw what the model sees from raw data, (B, X) to (B, X); a fresh draw at each access."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Mapping[str, Tensor]:
        """Variational parameters for observations x, (B, X) to tensors of (B, D)."""
        raise NotImplementedError

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """The objective for observations x, (B, X), at variational parameters of (*R, B, D)."""
        raise NotImplementedError

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The weights by part: ``encoder``, ``decoder`` and, where it is learned, ``prior``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Objective:
        """The objective for observations x, (B, X)."""
        return self.objective(self.encode(x), x)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


PROBLEMS: Registry[type[Problem]] = Registry("problem", uses=[DATASETS])
register = PROBLEMS.register
names = PROBLEMS.names


def create(variant: str | Variant) -> Problem:
    """Build a problem, with torch's current random state for its initial weights: ``vae[dataset=mnist5k]``."""
    problem: Problem = PROBLEMS.create(variant)
    if _lazy(problem):
        _build(problem, variant)
    return problem


def _build(problem: Problem, variant: str | Variant) -> None:
    """Give lazy modules their weights now, so that the initial ones are the same whatever comes next."""
    training = [(module, module.training) for module in problem.modules()]
    problem.eval()  # a normalisation learns nothing from this
    with mistakes_of(f"the lazy modules of problem '{variant}' cannot be built"), torch.no_grad():
        intensities = torch.from_numpy(problem.data.train[:EXAMPLES])
        objective = problem(problem.observe(intensities, Generator().manual_seed(0)))
        objective.f(objective.q.sample((1,)))
    for module, mode in training:
        module.training = mode
    if unused := _lazy(problem):
        raise EstbenchError(
            f"problem '{variant}' has lazy modules that its objective does not use ({', '.join(unused)}); give their"
            " sizes in __init__, or remove them"
        )


def _lazy(problem: Problem) -> list[str]:
    """Names of the weights and buffers that have no size yet."""
    return [name for name, value in (*problem.named_parameters(), *problem.named_buffers()) if is_lazy(value)]


def describe(name: str) -> dict[str, Any]:
    """Facts, options with their defaults, and the documentation of a problem."""
    cls = PROBLEMS.get(name)
    return {
        "name": name,
        "kind": "problem",
        "summary": cls.summary,
        "latents": cls.latents,
        "version": cls.version,
        "options": cls.Options().model_dump(mode="json"),
        "documentation": inspect.getdoc(cls) or "",
    }
