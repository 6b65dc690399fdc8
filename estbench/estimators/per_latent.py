"""Problems with several latents: an instance of an estimator for each, or an estimator of another kind for each."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from pydantic import ConfigDict, model_validator
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators import requirements
from estbench.estimators.base import ESTIMATORS, Estimator, create
from estbench.estimators.compatibility import check_for
from estbench.options import BaseOptions
from estbench.problems import Objective, Problem
from estbench.problems.two_layers import TwoLayerObjective
from estbench.randomness import kept_random_state
from estbench.variant import Variant

TWO = 2  # latents, at most and at least


def create_for(variant: str | Variant, problem: Problem) -> Estimator:
    """Build an estimator for a problem, as ``create`` does, with an instance for each of its latents.

    ``per_latent[y=disarm,z=stl]`` names another estimator for each. Raises ``EstbenchError`` if the problem is not what
    an estimator requires: see ``check_for``.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[bits=3]")
    >>> estimators.create_for("rloo[num_samples=4]", problem)(problem(torch.zeros(5, 1))).shape
    torch.Size([5])
    >>> estimators.create_for("rqmc", problem)
    Traceback (most recent call last):
    estbench.errors.EstbenchError: estimator 'rqmc' requires normal latents (from loc and log_scale), and q is ...
    """
    estimator = create(variant)
    latents = list(problem.latents_by_name(getattr(problem, "options", None)))
    if isinstance(estimator, PerLatent):
        estimator.put_in_order(latents)
    elif len(latents) > 1:
        estimator = PerLatent(estimator.options, [estimator, create(variant)])
    check_for(estimator, problem)
    return estimator


class PerLatentOptions(BaseOptions):
    """The estimators by the names of their latents: these names are the fields."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _estimators(cls, named: Any) -> Any:
        if len(named) < TWO:
            raise ValueError("name an estimator for each latent, for example per_latent[y=rloo,z=reparam]")
        for latent, estimator in named.items():
            if not isinstance(estimator, str) or estimator.partition("[")[0] == "per_latent":
                raise ValueError(f"'{latent}' needs the name of one estimator, got {estimator}")
        return {latent: ESTIMATORS.label(named[latent]) for latent in sorted(named)}


@ESTIMATORS.register("per_latent", listed=False)
class PerLatent(Estimator):
    """An estimator for each of two latents; see ``TwoLayerObjective``.

    The first estimates the gradient of the first latent, the second that of V, which is part of its f. Each has its own
    samples, sizes, moving averages and learned parts. If both are unbiased, so is the whole, because a sample's own f
    and its gradient enter the estimate linearly.

    Parameters
    ----------
    options
        The estimators by the names of their latents.
    parts
        Two instances of one estimator, whose name and facts this one then has.
    """

    Options = PerLatentOptions
    summary = "an estimator for each latent"
    supports = frozenset({requirements.ANY})

    def __init__(self, options: BaseOptions, parts: Sequence[Estimator] = ()) -> None:
        super().__init__(options)
        if parts:
            self.first, self.second = parts
            for fact in ("name", "version", *self.first.facts()):
                setattr(self, fact, getattr(self.first, fact))
        else:
            self._by_latent = {latent: create(name) for latent, name in named_estimators(options).items()}
            self.put_in_order(list(self._by_latent))
            for fact, value in self._shared_facts().items():
                setattr(self, fact, value)
        self.evaluations = "of both latents"  # until they are counted

    def _shared_facts(self) -> dict[str, Any]:
        return {
            "summary": "; ".join(f"of {latent}: {part.summary}" for latent, part in self._by_latent.items()),
            "reference": ", ".join(dict.fromkeys(part.reference for part in self.parts if part.reference)) or None,
            "unbiased": all(part.unbiased for part in self.parts),
            "needs_differentiable_f": any(part.needs_differentiable_f for part in self.parts),
        }

    @classmethod
    def card_of(cls, options: BaseOptions) -> str:
        """Return all that the estimates depend on beside the names: versions, and options that have their defaults."""
        resolved = map(ESTIMATORS.resolve, named_estimators(options).values())
        return " ".join(f"{Variant(each.name, each.options)} {each.version}" for each in resolved)

    @classmethod
    def for_latents(cls, latents: Collection[str], options: BaseOptions | None) -> dict[str, type[Estimator]]:
        named = named_estimators(options)
        _check_names(named, latents)
        return {latent: ESTIMATORS.entry(name) for latent, name in named.items()}

    @property
    def parts(self) -> tuple[Estimator, ...]:
        return self.first, self.second

    def put_in_order(self, latents: Sequence[str]) -> None:
        """Take the latents of a problem in its order; raise ``EstbenchError`` if they have other names."""
        _check_names(self._by_latent, latents)
        self.first, self.second = (self._by_latent[latent] for latent in latents)

    def prepare(self, objective: Objective) -> None:
        self.first.prepare(objective)
        self.second.prepare(_nested(objective).second(objective.q.sample()))
        # This also finds out, before the first step, whether the estimator needs a prior, which a first layer lacks.
        self.evaluations = self.count_evaluations(objective)

    def count_evaluations(self, objective: Objective) -> int:
        """Count them in a trial call: only the first instance knows how often f is called, and with gradients on."""
        trial = copy.copy(objective)
        modes = [(module, module.training) for module in self.modules()]
        trial.evaluations = 0
        self.eval()
        with kept_random_state(objective.device), torch.enable_grad():
            self(trial)
        for module, training in modes:
            module.training = training
        return trial.evaluations // objective.batch_shape.numel()

    def forward(self, objective: Objective) -> Tensor:
        estimated = _nested(objective).estimated_by(self.second)
        surrogate: Tensor = self.first(estimated)
        objective.evaluations = estimated.evaluations
        return surrogate


def named_estimators(options: BaseOptions | None) -> dict[str, str]:
    """Return the estimators by the names of their latents."""
    return dict((options.model_extra if options is not None else None) or {})


def _check_names(named: Collection[str], latents: Collection[str]) -> None:
    if sorted(named) != sorted(latents):
        raise EstbenchError(
            f"per_latent names the latents {' and '.join(sorted(named))}, and the problem has"
            f" {' and '.join(latents)}; name an estimator for each"
        )


def _nested(objective: Objective) -> TwoLayerObjective:
    if not isinstance(objective, TwoLayerObjective):
        raise EstbenchError("an estimator for each of two latents needs their objective, a TwoLayerObjective")
    return objective
