"""Requirements of estimators, checked on q itself, whatever the problem calls its latents."""

from __future__ import annotations

import copy
from collections.abc import Set as AbstractSet
from typing import ClassVar, Protocol

import torch
from torch.distributions import Distribution, Independent

from estbench.errors import EstbenchError
from estbench.latents import FAMILY_NAMES, IMPLICIT, Latents, closed_form_kl, make_latents
from estbench.latents.normal import UncheckedNormal
from estbench.problems.objective import Objective
from estbench.randomness import kept_random_state

# A class may declare in ``supports``: one of these three, or families whose structure its formula uses.
ANY = "any"  # samples of q and their density
REPARAMETERIZED = "reparameterized"  # also a differentiable sample
LAYERS = "layers"  # normal weights of linear layers, at whose pre-activations it acts
FAMILIES: dict[str, Latents] = {name: make_latents(name, 1, 2) for name in FAMILY_NAMES}
MOST_DRAWN = 2_000_000  # numbers in all draws of q together: large latents have fewer draws
# Errors of distributions for values or parameters that they are not for.
OTHERWISE = (RuntimeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, AttributeError)


class Declared(Protocol):
    """The declared facts of an estimator that limit what it is for."""

    name: ClassVar[str]
    supports: ClassVar[AbstractSet[str]]
    bounds: ClassVar[AbstractSet[str]]
    needs_differentiable_f: bool


def families(supports: AbstractSet[str]) -> frozenset[str]:
    """Return the families of ``FAMILIES`` that an estimator with such ``supports`` is for, and ``LAYERS``."""
    if ANY in supports:
        return frozenset(FAMILIES)
    differentiable = {"normal", "full-normal", "weibull"} | IMPLICIT if REPARAMETERIZED in supports else set()
    return frozenset(supports & {*FAMILIES, LAYERS}) | differentiable


def in_words(supports: AbstractSet[str]) -> str:
    """Return in words what such ``supports`` require of q."""
    named = [
        f"{name} latents (from {' and '.join(FAMILIES[name].parameter_names())})"
        for name in sorted(FAMILIES.keys() & supports)
    ]
    if ANY in supports:
        named.append("a density and samples")
    if REPARAMETERIZED in supports:
        named.append("a differentiable sample (rsample)")
    if LAYERS in supports:
        named.append("normal weights of linear layers (linear_layers of the objective)")
    return " or ".join(named)


def family_of(objective: Objective) -> str | None:
    """Return the family of ``FAMILIES`` that q is, at these parameters and at others; None if it is none of them.

    It is the family if its parameters have the same names, and its density the same values.
    """
    with kept_random_state(objective.device), torch.no_grad():
        for name, latents in FAMILIES.items():
            if latents.parameter_names() == sorted(objective.params) and _is(objective, latents):
                return name
    return None


def described(objective: Objective) -> str:
    """Describe q in words."""
    base, wrapped = objective.q, ""
    while isinstance(base, Independent):
        base, wrapped = base.base_dist, " of independent parts"
    shape, names = tuple(objective.q.event_shape), " and ".join(objective.params)
    name = type(base).__name__.removeprefix("Unchecked")  # of estbench.latents: torch's, without its checks
    return f"a {name}{wrapped} with event shape {shape}, from {names}"


def kind_of(objective: Objective) -> tuple[object, ...]:
    """Return a key that is equal for objectives of which one check is enough."""
    types, base = [], objective.q
    while isinstance(base, Independent):
        types.append(type(base))
        base = base.base_dist
    shape, bound = objective.q.event_shape, objective.importance_samples
    return *types, type(base), shape, *objective.params, bound, objective.samples_kl, objective.weighted


def check_objective(estimator: Declared, objective: Objective) -> None:
    """Raise ``EstbenchError`` if q, or the bound, is not what the estimator requires."""
    if objective.importance_samples > 1 and "multi-sample" not in estimator.bounds:
        raise EstbenchError(
            f"estimator '{estimator.name}' is for the ELBO, and the objective has"
            f" {objective.importance_samples} importance samples; choose another of the two"
        )
    supports = estimator.supports
    if ANY in supports or (REPARAMETERIZED in supports and objective.q.has_rsample):
        return
    family = family_of(objective)
    if LAYERS in supports and family == "normal" and objective.linear_layers is not None:
        return
    if family is None or family not in supports:
        raise EstbenchError(
            f"estimator '{estimator.name}' requires {in_words(supports)}, and q is {described(objective)};"
            " choose another estimator"
        )
    if family in {"bernoulli", "categorical"} and estimator.needs_differentiable_f and objective.samples_kl:
        for density in (objective.q, objective.prior):
            _check_linear(estimator, density, FAMILIES[family].family(objective.params))


def look(estimator: Declared, objective: Objective) -> None:
    """Check an objective and refuse those of its members that are wrong; done when an estimator is first called."""
    check_objective(estimator, objective)
    gap = kl_gap(objective)
    if gap:
        objective.refused = dict.fromkeys(("log_weight", "prior"), untrue(estimator, gap))
    elif objective.weighted:
        objective.refused = {"prior": untrue(estimator, "the KL has a weight")}


def kl_gap(objective: Objective, draws: int = 0) -> str:
    """Describe how the KL of an objective differs from w KL(q || p); empty if it does not, or if that is not known.

    If torch has no closed form, it is compared with the mean of ``draws`` draws for each example.
    """
    if objective.samples_kl:
        return ""
    objective = copy.copy(objective)
    objective.refused = {}
    with kept_random_state(objective.device), torch.no_grad():
        q, given = objective.q, objective.kl()
        try:
            p = objective.prior
            true, error = closed_form_kl(q, p), torch.zeros(())
        except Exception:  # noqa: BLE001  (a kl may stand for a prior that is never asked for)
            return ""
        if not draws and (true is None or _would_wait(objective)):
            return ""
        if true is None:
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


def _would_wait(objective: Objective) -> bool:
    """Whether a look would make a device wait for a normal of a VAE, which never does. ``check_for`` looks before."""
    return objective.device.type != "cpu" and type(getattr(objective.q, "base_dist", None)) is UncheckedNormal


def untrue(estimator: Declared, why: str) -> str:
    """Return the message that refuses an estimator the densities of q and prior."""
    return (
        f"estimator '{estimator.name}' uses the densities of q and prior, and {why}; state a weight as"
        " Objective(kl_weight=...), or choose an estimator that takes the KL as it is (reparam, rloo)"
    )


def _check_linear(estimator: Declared, density: Distribution, corners: Distribution) -> None:
    """Raise unless the log-density of finite latents is linear between their values, as relaxed samples need it.

    The corners are drawn from a distribution of the family: q's own sampler may be counted or replayed.
    """
    with kept_random_state(corners.mean.device), torch.no_grad():
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
            " validate_args=False, one-hot vectors by OneHot of estbench.latents"
        )


def _is(objective: Objective, latents: Latents) -> bool:
    replicates = len(objective.batch_shape) - 1
    try:
        # Of replicates, the first: there may be many, and all are of one family.
        here = {name: value.detach()[(slice(1),) * replicates] for name, value in objective.params.items()}
        there = {name: value + torch.randn_like(value) for name, value in here.items()}
        return all(_same(objective.build_q(params), latents.family(params)) for params in (here, there))
    except OTHERWISE:
        return False


def _same(q: Distribution, expected: Distribution) -> bool:
    if (q.batch_shape, q.event_shape) != (expected.batch_shape, expected.event_shape):
        return False
    z = expected.sample((3,))
    return torch.allclose(q.log_prob(z), expected.log_prob(z), rtol=1e-3, atol=1e-3)
