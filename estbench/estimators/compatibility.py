"""Checks whether an estimator is for a problem: by what both declare, and by q itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators.base import Estimator, make_ready
from estbench.estimators.requirements import (
    FAMILIES,
    check_objective,
    described,
    families,
    family_of,
    in_words,
    kl_gap,
    look,
    untrue,
)
from estbench.options import BaseOptions
from estbench.problems import Objective, Problem
from estbench.problems.two_layers import TwoLayerObjective
from estbench.randomness import kept_random_state

EXAMPLES = 2
DRAWS = 10_000
# Parameters at which a KL is compared with KL(q || p), as multiples of an encoder's: a clamp shows near zero.
MULTIPLES = (1.0, 0.0, 0.1, 3.0, 10.0, 30.0)


def check_supports(
    estimator: type[Estimator], problem: type[Problem], options: BaseOptions, own: BaseOptions | None = None
) -> None:
    """Raise ``EstbenchError`` if what a problem declares with its options rules an estimator with its ``own`` out.

    This costs nothing. ``check_for`` looks at q itself.

    Examples
    --------
    >>> from estbench.estimators import ESTIMATORS, check_supports
    >>> from estbench.problems import PROBLEMS
    >>> toy = PROBLEMS.get("bernoulli_toy")
    >>> check_supports(ESTIMATORS.get("disarm"), toy, toy.Options())
    >>> check_supports(ESTIMATORS.get("vimco"), toy, toy.Options())
    Traceback (most recent call last):
    estbench.errors.EstbenchError: estimator 'vimco' is for the multi-sample objective, and problem ...
    """
    bound, by_name = problem.bound_of(options), problem.latents_by_name(options)
    for name, each in estimator.for_latents(by_name, own).items():
        latents = by_name[name]
        if latents in FAMILIES and latents not in families(each.supports):
            several = ", ".join(f"{other}=..." for other in by_name)
            raise EstbenchError(
                f"estimator '{each.name}' requires {in_words(each.supports)}, and problem '{problem.name}' has"
                f" {latents} latents{f' {name}' if len(by_name) > 1 else ''}; choose another of the two"
                + (f", or name an estimator for each: per_latent[{several}]" if len(by_name) > 1 else "")
            )
        if bound not in each.bounds:
            raise EstbenchError(
                f"estimator '{each.name}' is for the {' or '.join(sorted(each.bounds))} objective, and problem"
                f" '{problem.name}' has the {bound} one (importance_samples decides); choose another of the two"
            )


def check_for(estimator: Estimator, problem: Problem, x: Tensor | None = None) -> None:
    """Raise ``EstbenchError`` if a problem is not what it declares, or not what the estimator requires.

    A few examples are encoded in eval mode: the first of ``x``, (B, X), or of the training data. Problem, estimator
    and torch's random state are left as they were.

    Examples
    --------
    >>> from estbench import estimators, problems
    >>> estimators.check_for(estimators.create("disarm"), problems.create("bernoulli_toy"))
    """
    with _untouched(problem):
        x, objective = _first_objective(problem) if x is None else _objective(problem, x[:EXAMPLES])
        _check_claim(problem, objective, len(x))
        layers = [objective]
        if isinstance(objective, TwoLayerObjective):
            layers.append(objective.second(objective.q.sample()))
        parts = estimator.parts if len(estimator.parts) == len(layers) else estimator.parts * len(layers)
        for part, layer in zip(parts, layers, strict=True):
            check_objective(part, layer)
        gap = _first_gap(problem, objective, x)
        if gap and objective.importance_samples > 1:
            raise EstbenchError(f"problem '{problem.name}': a multi-sample bound has no KL apart, and {gap}")
        if not gap and not objective.weighted and all(family_of(layer) for layer in layers):
            return
        _try_out(estimator, objective, gap)


def _first_gap(problem: Problem, objective: Objective, x: Tensor) -> str:
    """Return the first ``kl_gap`` at several parameters, in both modes: a clamp or a warm-up need not show at once."""
    if objective.samples_kl:
        return ""
    for training in (False, True):
        problem.train(training)
        for factor in MULTIPLES:
            params = {name: factor * value for name, value in objective.params.items()}
            gap = ""
            with suppress(Exception):  # q may not exist at these parameters, or its author did not expect them
                gap = kl_gap(problem.objective(params, x), DRAWS)
            if gap:
                problem.eval()
                return gap
    problem.eval()
    return ""


def _try_out(estimator: Estimator, objective: Objective, gap: str) -> None:
    """Call the estimator once: this raises if it uses what is refused, or what q does not have."""
    try:
        trial = copy.deepcopy(estimator)
    except Exception:  # noqa: BLE001  (one that holds a lock or an open file; its first step will show)
        return
    try:
        make_ready(trial, objective).eval()
        look(trial, objective)
        if gap:
            objective.refused = dict.fromkeys(("log_weight", "prior"), untrue(estimator, gap))
        surrogate = trial.forward(objective)
    except NotImplementedError as error:
        raise EstbenchError(
            f"estimator '{estimator.name}' asks q for what {described(objective)} does not have ({error});"
            " choose another estimator"
        ) from error
    params = [value for value in objective.params.values() if value.requires_grad]
    if params and not surrogate.requires_grad:
        raise EstbenchError(
            f"the surrogate of estimator '{estimator.name}' carries no gradient: neither the sample nor the density of"
            f" {described(objective)} depends on its parameters in autograd"
        )


def _check_claim(problem: Problem, objective: Objective, examples: int) -> None:
    """Raise unless q is of the family that the problem names, with one density for each example."""
    if len(objective.q.batch_shape) != 1:
        raise EstbenchError(
            f"problem '{problem.name}': q has batch shape {tuple(objective.q.batch_shape)} for {examples} examples; its"
            " density must be one number for each (see torch.distributions.Independent)"
        )
    if problem.kl_weight != 1 and objective.kl_weight is not problem.kl_weight:
        raise EstbenchError(
            f"problem '{problem.name}' does not take the weight of the KL that training gives it; pass"
            " kl_weight=self.kl_weight to its Objective, or leave training.kl_weight out"
        )
    claimed = problem.latents_of(getattr(problem, "options", None))
    if claimed in FAMILIES and family_of(objective) != claimed:
        raise EstbenchError(
            f"problem '{problem.name}' says that its latents are {claimed}, and its q is {described(objective)};"
            " say something else in latents_of: any other word will do"
        )


def _objective(problem: Problem, x: Tensor) -> tuple[Tensor, Objective]:
    return x, problem.objective(problem.encode(x), x)


def _first_objective(problem: Problem) -> tuple[Tensor, Objective]:
    """Return the first training examples and their objective, in the precision of the data, or else of the weights."""
    intensities = torch.from_numpy(problem.data.train[:EXAMPLES])
    precisions = {intensities.dtype, *(each.dtype for each in problem.parameters() if each.is_floating_point())}
    for dtype in sorted(precisions, key=lambda each: each != intensities.dtype):
        try:
            generator = torch.Generator(problem.device).manual_seed(0)
            return _objective(problem, problem.observe(intensities.to(problem.device, dtype), generator))
        except RuntimeError as error:  # torch's for operands of several precisions
            failed = error
    raise failed


@contextmanager
def _untouched(problem: Problem) -> Iterator[None]:
    """Put the problem into eval mode, with gradients on; restore attributes, buffers and torch's random state after."""
    # The attributes of each module (modes, counters, buffers), and the values of buffers.
    bound = [(module, {**vars(module)}, {**vars(module)["_buffers"]}) for module in problem.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in problem.buffers()]
    try:
        with kept_random_state(problem.device), torch.enable_grad():
            problem.eval()
            yield
    finally:
        for module, attributes, named in bound:
            vars(module).clear()
            vars(module).update(attributes)
            attributes["_buffers"].clear()
            attributes["_buffers"].update(named)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
