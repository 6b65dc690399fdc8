"""Requirements of estimators: q itself is looked at, whatever the problem calls its latents."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from estbench.errors import EstbenchError
from estbench.latents.densities import closed_form_kl
from estbench.latents.families import BernoulliLatents, CategoricalLatents, Latents, NormalLatents
from estbench.latents.implicit import IMPLICIT, BetaLatents, DirichletLatents, GammaLatents, StudentTLatents
from estbench.problems import Objective, Problem
from estbench.problems.two_layers import TwoLayerObjective

if TYPE_CHECKING:
    from estbench.estimators.base import Estimator

# What a class may declare in ``supports``: one of these two, or families whose structure its formula uses.
ANY = "any"  # samples of q and their density
REPARAMETERIZED = "reparameterized"  # also a differentiable sample
FAMILIES: dict[str, Latents] = {
    each.name: each
    for each in (
        NormalLatents(1),
        BernoulliLatents(1),
        CategoricalLatents(1, 2),
        GammaLatents(1),
        BetaLatents(1),
        DirichletLatents(1, 2),
        StudentTLatents(1),
    )
}
EXAMPLES = 2
DRAWS = 10_000
MOST_DRAWN = 2_000_000  # numbers in all draws of q together: fewer draws of large latents
# Parameters at which a KL is compared with KL(q || p), as multiples of an encoder's: a clamp shows near zero.
MULTIPLES = (1.0, 0.0, 0.1, 3.0, 10.0, 30.0)
# What distributions raise for values or parameters that they are not for.
OTHERWISE = (RuntimeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, AttributeError)


def families(supports: AbstractSet[str]) -> frozenset[str]:
    """The families of ``FAMILIES`` that an estimator with such ``supports`` is for."""
    if ANY in supports:
        return frozenset(FAMILIES)
    differentiable = {"normal"} | IMPLICIT if REPARAMETERIZED in supports else set()
    return frozenset(supports & FAMILIES.keys()) | differentiable


def in_words(supports: AbstractSet[str]) -> str:
    """What such ``supports`` require of q."""
    named = [
        f"{name} latents (from {' and '.join(sorted(_parameters(FAMILIES[name])))})"
        for name in sorted(FAMILIES.keys() & supports)
    ]
    if ANY in supports:
        named.append("a density and samples")
    if REPARAMETERIZED in supports:
        named.append("a differentiable sample (rsample)")
    return " or ".join(named)


def family_of(objective: Objective) -> str | None:
    """The family of ``FAMILIES`` that q is, at these parameters and at others; None if it is none of them.

    It is the family if its parameters have the same names, and its density the same values.
    """
    with torch.random.fork_rng(_devices(objective)), torch.no_grad():
        for name, latents in FAMILIES.items():
            if _parameters(latents) == set(objective.params) and _is(objective, latents):
                return name
    return None


def described(objective: Objective) -> str:
    """What q is, in words."""
    base, wrapped = objective.q, ""
    while isinstance(base, Independent):
        base, wrapped = base.base_dist, " of independent parts"
    shape, names = tuple(objective.q.event_shape), " and ".join(objective.params)
    return f"a {type(base).__name__}{wrapped} with event shape {shape}, from {names}"


def kind_of(objective: Objective) -> tuple[object, ...]:
    """What objectives have in common that need be looked at once only."""
    types, base = [], objective.q
    while isinstance(base, Independent):
        types.append(type(base))
        base = base.base_dist
    shape, bound = objective.q.event_shape, objective.importance_samples
    return *types, type(base), shape, *objective.params, bound, objective.samples_kl, objective.weighted


def check_objective(estimator: Estimator, objective: Objective) -> None:
    """Raise ``EstbenchError`` if q, or the bound, is not what the estimator's formula rests on."""
    if objective.importance_samples > 1 and "multi-sample" not in estimator.bounds:
        raise EstbenchError(
            f"estimator '{estimator.name}' is for the ELBO, and the objective has"
            f" {objective.importance_samples} importance samples; choose another of the two"
        )
    supports = estimator.supports
    if ANY in supports or (REPARAMETERIZED in supports and objective.q.has_rsample):
        return
    family = family_of(objective)
    if family is None or family not in supports:
        raise EstbenchError(
            f"estimator '{estimator.name}' requires {in_words(supports)}, and q is {described(objective)};"
            " choose another estimator"
        )
    if family in {"bernoulli", "categorical"} and estimator.needs_differentiable_f and objective.samples_kl:
        for density in (objective.q, objective.prior):
            _check_linear(estimator, density, FAMILIES[family].family(objective.params))


def look(estimator: Estimator, objective: Objective) -> None:
    """Check an objective, and bar those of its members that would be wrong; done when an estimator is first called."""
    check_objective(estimator, objective)
    gap = kl_gap(objective)
    if gap:
        objective.refused = dict.fromkeys(("log_weight", "prior"), _untrue(estimator, gap))
    elif objective.weighted:
        objective.refused = {"prior": _untrue(estimator, "the KL has a weight")}


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


def kl_gap(objective: Objective, draws: int = 0) -> str:
    """How the KL of an objective differs from w KL(q || p), in words; empty if it does not, or if that is not known.

    Where torch has no closed form, it is compared with so many draws for each example.
    """
    if objective.samples_kl or isinstance(objective, TwoLayerObjective):
        return ""
    objective = copy.copy(objective)
    objective.refused = {}
    with torch.random.fork_rng(_devices(objective)), torch.no_grad():
        q, given = objective.q, objective.kl()
        try:
            p = objective.prior
            true, error = closed_form_kl(q, p), torch.zeros(())
        except Exception:  # noqa: BLE001  (a kl may stand for a prior that is never asked for)
            return ""
        if true is None:
            if not draws:
                return ""
            draws = max(1, min(draws, MOST_DRAWN // (q.batch_shape + q.event_shape).numel()))
            z = q.sample((draws,))
            ratio = q.log_prob(z) - p.log_prob(z)
            true, error = ratio.mean(0), 6 * ratio.std(0) / draws**0.5
        true = objective.kl_weight * true
        allowed = 2e-4 + 2e-4 * true.abs() + objective.kl_weight * error.to(true)
        wrong = (given - true).abs() > allowed
    if not bool(wrong.any()):
        return ""
    place = wrong.nonzero()[0].tolist()
    values = (float(each.expand(wrong.shape)[tuple(place)]) for each in (given, true))
    return "the kl that was given is {:.4g} where KL(q || p) is {:.4g}".format(*values)


def _untrue(estimator: Estimator, why: str) -> str:
    return (
        f"estimator '{estimator.name}' uses the densities of q and prior, and {why}; state a weight as"
        " Objective(kl_weight=...), or choose an estimator that takes the KL as it is (reparam, rloo)"
    )


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
            objective.refused = dict.fromkeys(("log_weight", "prior"), _untrue(estimator, gap))
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


def _check_linear(estimator: Estimator, density: Distribution, corners: Distribution) -> None:
    """Between the corners the log-density of finite latents is linear, as relaxed samples need it.

    The corners are drawn from a distribution of the family: q's own sampler may be counted or replayed.
    """
    with torch.random.fork_rng([]), torch.no_grad():
        first, second = corners.sample((2, 16))  # several pairs: two draws may be the same
        try:
            middle = density.log_prob((first + second) / 2)
            linear = torch.allclose(middle, (density.log_prob(first) + density.log_prob(second)) / 2, rtol=1e-3)
        except OTHERWISE:
            linear = False
    if not linear:
        raise EstbenchError(
            f"estimator '{estimator.name}' takes the density of a sampled KL between the values of q, where that of a"
            f" {type(density).__name__} is not linear; choose another estimator, or an analytic KL; or make it with"
            " validate_args=False, one-hot vectors by OneHot of estbench.latents.families"
        )


def _is(objective: Objective, latents: Latents) -> bool:
    replicates = len(objective.batch_shape) - 1
    try:
        # Of replicates, the first: there may be many, and all are of one family.
        here = {name: value.detach()[(slice(1),) * replicates] for name, value in objective.params.items()}
        there = {name: value + torch.randn_like(value) for name, value in here.items()}
        return all(_same(objective.q_of(params), latents.family(params)) for params in (here, there))
    except OTHERWISE:
        return False


def _same(q: Distribution, expected: Distribution) -> bool:
    if (q.batch_shape, q.event_shape) != (expected.batch_shape, expected.event_shape):
        return False
    z = expected.sample((3,))
    return torch.allclose(q.log_prob(z), expected.log_prob(z), rtol=1e-3, atol=1e-3)


def _parameters(latents: Latents) -> set[str]:
    return set(latents.split(torch.zeros(latents.outputs)))


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


def _devices(objective: Objective) -> list[torch.device]:
    device = next(iter(objective.params.values())).device
    return [device] if device.type == "cuda" else []


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
