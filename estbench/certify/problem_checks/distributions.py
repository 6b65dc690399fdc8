"""Checks of q and of the bounds: what is declared about them is true, and they are finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor

from estbench.certify.check_result import CheckResult, failed, passed, skipped
from estbench.certify.problem_under_test import (
    CPU,
    ProblemUnderTest,
    draw,
    observe_examples,
)
from estbench.datasets.checks import SPLITS
from estbench.estimators.compatibility import DRAWS, MULTIPLES
from estbench.estimators.requirements import FAMILIES, described, family_of, kl_gap
from estbench.measure import evaluate_elbo
from estbench.problems import Objective, Problem
from estbench.problems.two_layers import TwoLayerObjective
from estbench.randomness import seeded

NUM_SAMPLES = 64
# Standard errors by which a mean of draws may be off.
MOST_ERRORS = 6.0
MEND_KL = "correct kl, or state a weight as Objective(kl_weight=...)"
ROUNDING = 1e-5  # of the bounds, which are computed in single precision


def check_parameters(tested: ProblemUnderTest) -> CheckResult:
    """Check ``encode`` and q: named parameters with a row for each example, and the declared family and bound."""
    problem = tested.build().eval()
    x = observe_examples(problem)
    params = problem.encode(x)
    complaint = _complain_about(params, len(x))
    if complaint:
        return failed(complaint)
    objective = problem.objective(params, x)
    batch_shape = tuple(objective.q.batch_shape)
    if batch_shape != (len(x),):
        message = (
            f"q has batch shape {batch_shape} for {len(x)} examples; its density must be one number for each: wrap it"
            " in torch.distributions.Independent"
        )
        return failed(message)
    family, claimed = family_of(objective), tested.claimed_latents
    if claimed in FAMILIES and family != claimed:
        message = (
            f"it says that its latents are {claimed}, and q is {described(objective)}; correct `latents`, or"
            " latents_of: any other word will do"
        )
        return failed(message)
    bound = "multi-sample" if objective.importance_samples > 1 else "elbo"
    if bound != tested.claimed_bound:
        message = (
            f"it says that its bound is {tested.claimed_bound}, and its objective has K ="
            f" {objective.importance_samples}; correct bound_of"
        )
        return failed(message)
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in params.items())
    q = f"{family} latents" if family else f"q is {described(objective)}, of no family that estimators know"
    return passed(f"{shapes}; {q}; the bound is {bound}")


def check_bounds(tested: ProblemUnderTest) -> CheckResult:
    """Check that ELBO and IWAE bound are finite on all splits, and that the second is not below the first."""
    problem = tested.build()
    values = []
    for split in SPLITS:
        x = observe_examples(problem, split)
        estimate = evaluate_elbo(problem, x, NUM_SAMPLES, seed=0)
        elbo, iwae = estimate.elbo, estimate.iwae
        if not (math.isfinite(elbo) and math.isfinite(iwae)):
            message = (
                f"on the {split} split the ELBO is {elbo:g} and the IWAE bound {iwae:g}; compute densities with"
                " logarithms, and bound what is exponentiated"
            )
            return failed(message)
        # By Jensen's inequality the IWAE bound is at least the mean of log w, whose mean is the ELBO.
        error = _measure_error(problem, x)
        allowed = MOST_ERRORS * error + ROUNDING * max(1.0, abs(elbo))
        if elbo - iwae > allowed:
            message = (
                f"on the {split} split the IWAE bound {iwae:.6g} is below the ELBO {elbo:.6g} by more than its Monte"
                f" Carlo error ({error:.1g}); the prior, q and the KL of bound_terms must be of one model"
            )
            return failed(message, (elbo - iwae) / allowed)
        values.append(f"{split} {elbo:.4g} <= {iwae:.4g}")
    return passed(f"ELBO <= IWAE-{NUM_SAMPLES}: {', '.join(values)}")


def check_kl(tested: ProblemUnderTest) -> CheckResult:
    """Check a KL in closed form against E_q[log q - log p], at an encoder's parameters and at multiples of them."""
    problem = tested.build().eval()
    x = observe_examples(problem)
    with torch.no_grad():
        objective = problem(x)
        if isinstance(objective, TwoLayerObjective):
            return _check_second_kl(objective)
        if objective.samples_kl:
            return skipped("the KL is sampled within f")
        try:
            _ = objective.prior
        except Exception as error:  # noqa: BLE001  (a kl may stand for a prior that is never asked for)
            return skipped(f"there is no prior to compare with ({type(error).__name__})")
        gap = _find_gap(problem, objective, x)
    weight = "a weight times KL(q || p)" if objective.weighted else "KL(q || p)"
    if gap:
        return failed(f"{gap}; {MEND_KL}")
    return passed(f"it is {weight} at {len(MULTIPLES)} values of the parameters, in both modes")


def _find_gap(problem: Problem, objective: Objective, x: Tensor) -> str:
    """Return the first gap at several parameters in both modes: a clamp or a warm-up need not show at once."""
    for training in (False, True):
        problem.train(training)
        for factor in MULTIPLES:
            params = {name: factor * value for name, value in objective.params.items()}
            # q may not exist at other parameters, or its author did not expect them.
            with seeded(0, CPU), suppress(*([] if factor == 1 else [Exception])):
                gap = kl_gap(problem.objective(params, x), DRAWS)
                if gap:
                    return f"{gap} (in training mode)" if training else gap
    return ""


def _check_second_kl(objective: TwoLayerObjective) -> CheckResult:
    second = objective.second(draw(objective)[0])
    if second.samples_kl:
        return skipped("the KL of the second layer is sampled within f")
    with seeded(0, CPU):
        gap = kl_gap(second, DRAWS)
    return failed(f"in the second layer {gap}; {MEND_KL}") if gap else passed("that of the second layer is KL(q || p)")


def _complain_about(params: object, examples: int) -> str:
    """Say what is wrong with the parameters that ``encode`` returns; empty if nothing is."""
    if not isinstance(params, Mapping) or not params:
        return f"encode returns {type(params).__name__}; return the parameters by name, {{'loc': ..., ...}}"
    for name, value in params.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return f"encode gives no tensor of floating-point numbers for {name!r}; give one of (B, D)"
        if value.dim() < 2 or len(value) != examples:
            return f"{name} has shape {tuple(value.shape)} for {examples} examples; give one row for each, (B, D)"
        if not value.isfinite().all():
            return f"{name} has values that are not finite; check the encoder and its initial weights"
    return ""


def _measure_error(problem: Problem, x: Tensor) -> float:
    """Return the standard error of the mean difference between the terms of the ELBO and log w."""
    problem.eval()
    with torch.no_grad():
        objective = problem(x)
        terms = objective.bound_terms(draw(objective, NUM_SAMPLES))
        difference = (terms.elbo - terms.log_weight).double().mean(1)
    return float(difference.std()) / math.sqrt(NUM_SAMPLES)
