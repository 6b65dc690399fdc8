"""Whether an estimator is for a problem: by what both declare, and by a look at q."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators.base import Estimator
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

EXAMPLES = 2
DRAWS = 10_000
# Parameters at which a KL is compared with KL(q || p), as multiples of an encoder's: a clamp shows near zero.
MULTIPLES = (1.0, 0.0, 0.1, 3.0, 10.0, 30.0)


def check_supports(estimator: type[Estimator], problem: type[Problem], options: BaseOptions) -> None:
    """Raise ``EstbenchError`` if what a problem says of itself with these options rules the estimator out.

    It costs nothing; whether it is true is found by ``check_for``, which looks at q.
    """
    latents, bound = problem.latents_of(options), problem.bound_of(options)
    if latents in FAMILIES and latents not in families(estimator.supports):
        raise EstbenchError(
            f"estimator '{estimator.name}' requires {in_words(estimator.supports)}, and problem"
            f" '{problem.name}' has {latents} latents; choose another of the two"
        )
    if bound not in estimator.bounds:
        raise EstbenchError(
            f"estimator '{estimator.name}' is for the {' or '.join(sorted(estimator.bounds))} objective, and problem"
            f" '{problem.name}' has the {bound} one (importance_samples decides); choose another of the two"
        )


def check_for(estimator: Estimator, problem: Problem, x: Tensor | None = None) -> None:
    """Raise ``EstbenchError`` if a problem is not what it claims to be, or not what the estimator requires.

    A few examples are encoded, in eval mode; problem, estimator and torch's random state are left as they were.
    """
    with _untouched(problem):
        x, objective = _first_objective(problem) if x is None else _objective(problem, x[:EXAMPLES])
        _check_claim(problem, objective, len(x))
        layers = [objective]
        if isinstance(objective, TwoLayerObjective):
            layers.append(objective.second(objective.q.sample()))
        for layer in layers:
            check_objective(estimator, layer)
        gap = _first_gap(problem, objective, x)
        if gap and objective.importance_samples > 1:
            raise EstbenchError(f"problem '{problem.name}': a multi-sample bound has no KL apart, and {gap}")
        if not gap and not objective.weighted and all(family_of(layer) for layer in layers):
            return
        _rehearse(estimator, objective, gap)


def _first_gap(problem: Problem, objective: Objective, x: Tensor) -> str:
    """The first gap at other parameters, in training and in eval mode: a clamp or a warm-up need not show at once."""
    if objective.samples_kl:
        return ""
    for training in (False, True):
        problem.train(training)
        for factor in MULTIPLES:
            params = {name: factor * value for name, value in objective.params.items()}
            gap = ""
            with suppress(Exception):  # these may be no parameters of such a q, or none that its author expected
                gap = kl_gap(problem.objective(params, x), DRAWS)
            if gap:
                problem.eval()
                return gap
    problem.eval()
    return ""


def _rehearse(estimator: Estimator, objective: Objective, gap: str) -> None:
    """Call the estimator once: it complains itself if it uses what is barred, or what q does not have."""
    try:
        rehearsed = copy.deepcopy(estimator)
    except Exception:  # noqa: BLE001  (one that holds a lock or an open file; its first step will tell)
        return
    try:
        with torch.no_grad():
            rehearsed.prepare(objective)
        rehearsed.to(next(iter(objective.params.values())).device).eval()
        look(rehearsed, objective)
        if gap:
            objective.refused = dict.fromkeys(("log_weight", "prior"), untrue(estimator, gap))
        surrogate = rehearsed.forward(objective)
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
    """A problem that names a family has it, and its density is one number for each example."""
    if len(objective.q.batch_shape) != 1:
        raise EstbenchError(
            f"problem '{problem.name}': q has batch shape {tuple(objective.q.batch_shape)} for {examples} examples; its"
            " density must be one number for each (see torch.distributions.Independent)"
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
    """That of the first examples, in the precision that training gives them in, or else in that of the weights."""
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
    """The problem in eval mode, gradients on; its attributes, its buffers and torch's random state are put back."""
    # What is bound to each module (modes, counters, buffers), and what buffers hold.
    bound = [(module, {**vars(module)}, {**vars(module)["_buffers"]}) for module in problem.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in problem.buffers()]
    devices = [problem.device] if problem.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.enable_grad():
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
