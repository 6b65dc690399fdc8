r"""The theoretical results about the estimators that ship, each of which is checked with its estimator's certificate.

Variances are those of one estimate, with respect to ``loc`` and ``log_scale`` (s^2 times the variance with respect to
s), or to ``logits``. With d = m - k for the Gaussian toys, and p = theta (1 - theta), Delta = 1 - 2t,
m = min(theta, 1 - theta) for one bit. The formulas are those of Mohamed et al. (2020, arXiv:1906.10652, sec. 3) and of
Dong, Mnih and Tucker (2020, arXiv:2006.10680), or derived by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from estbench.certify.problems.base import SmallProblem
from estbench.certify.theory.theoretical_result import TheoreticalResult
from estbench.certify.theory.toys import (
    BIT_EXAMPLES,
    GAUSSIAN_EXAMPLES,
    make_bit_toy,
    make_discrete_toy,
    make_gaussian_toy,
    make_posterior_toy,
    to_column,
)
from estbench.estimators import Estimator
from estbench.latents import BernoulliLatents, CategoricalLatents
from estbench.problems import bernoulli_toy, gaussian_variances
from estbench.problems.gaussian_variances import Cost

Formula = Callable[[Tensor, Tensor], Tensor]  # of d and s, (B, 1) each
BITS = BernoulliLatents(3)
CATEGORIES = CategoricalLatents(2, 3)
CLAIMS: dict[Cost, str] = {
    "quadratic": "f = (z - k)^2",
    "cosine": "f = cos(k z)",
    "exponential": "f = exp(-k z^2)",
}
QUADRATIC = make_gaussian_toy("quadratic")


def known_results_for(label: str) -> list[TheoreticalResult]:
    """Return the results about an estimator with its options."""
    return [result for result in KNOWN_RESULTS if result.label == label]


def _quadratic(label: str, loc: Formula | None, log_scale: Formula | None = None) -> TheoreticalResult:
    """Variances for f = (z - k)^2, as functions of d and s."""
    mean, deviation, k = (to_column(values) for values in zip(*GAUSSIAN_EXAMPLES["quadratic"], strict=True))
    formulas = {"loc": loc, "log_scale": log_scale}
    variance = {group: formula(mean - k, deviation) for group, formula in formulas.items() if formula is not None}
    return TheoreticalResult(label, "f = (z - k)^2", QUADRATIC, variance)


def _constant_baselines() -> Iterator[TheoreticalResult]:
    """Variances of the score function with a constant baseline, one example each; a moving average holds the constant.

    Each entry has the baseline, the group, and its variance.
    """
    formulas: dict[str, tuple[Formula, str, Formula]] = {
        "the mean of f": (lambda d, s: d**2 + s**2, "loc", lambda d, s: 8 * d**2 + 10 * s**2),
        "the best for loc": (lambda d, s: d**2 + 3 * s**2, "loc", lambda d, s: 8 * d**2 + 6 * s**2),
        "the best for log_scale": (
            lambda d, s: d**2 + 5 * s**2,
            "log_scale",
            lambda d, s: s**2 * (40 * d**2 + 24 * s**2),
        ),
    }
    for name, (baseline, group, variance) in formulas.items():
        for example in GAUSSIAN_EXAMPLES["quadratic"]:
            d, s = to_column([example[0] - example[2]]), to_column([example[1]])
            yield TheoreticalResult(
                "reinforce[baseline=ema]",
                f"f = (z - k)^2, the baseline is {name}",
                make_gaussian_toy("quadratic", (example,)),
                {group: variance(d, s)},
                arrange=_set_baseline(float(baseline(d, s))),
            )
    for theta, target in BIT_EXAMPLES:
        best = (1 - theta) * (1 - target) ** 2 + theta * target**2
        yield TheoreticalResult(
            "reinforce[baseline=ema]",
            "no variance on one bit with the best baseline",
            make_bit_toy(((theta, target),)),
            {"logits": torch.zeros(1, 1, dtype=torch.float64)},
            arrange=_set_baseline(best),
        )


def _set_baseline(constant: float) -> Callable[[Estimator], None]:
    """Return a function that makes a moving average a constant: its mean, with weight one."""

    def arrange(estimator: Estimator) -> None:
        values = {"baseline.mean": constant, "baseline.weight": 1.0}
        estimator.load_state_dict({name: value.fill_(values[name]) for name, value in estimator.state_dict().items()})

    return arrange


def _gaussian(
    label: str, form: Literal["score-function", "pathwise", "measure-valued"], cost: Cost
) -> TheoreticalResult:
    """Variances by ``gaussian_variances``: of d/d loc, and for the quadratic cost also of d/d log_scale."""
    examples = GAUSSIAN_EXAMPLES[cost]
    variance = {"loc": to_column([gaussian_variances.variance(cost, form, "loc", *row) for row in examples])}
    if cost == "quadratic":
        # The gradient with respect to log s is s times that with respect to s.
        variance["log_scale"] = to_column(
            [row[1] ** 2 * gaussian_variances.variance(cost, form, "scale", *row) for row in examples]
        )
    return TheoreticalResult(label, CLAIMS[cost], make_gaussian_toy(cost), variance)


def _rloo(samples: int) -> Formula:
    """Return the variance of RLOO with respect to loc, for (z - k)^2: the sample covariance of f and the score."""
    n = samples
    return lambda d, s: (10 * s**2 + 12 * d**2 - (n - 2) / (n - 1) * 4 * d**2 + (4 * d**2 + 2 * s**2) / (n - 1)) / n


def _one_bit(label: Literal["reinforce", "rloo", "arm", "disarm"]) -> TheoreticalResult:
    """Variances for f = (b - t)^2, by ``bernoulli_toy``."""
    variance = to_column([bernoulli_toy.variance(label, theta, target) for theta, target in BIT_EXAMPLES])
    return TheoreticalResult(label, "f = (b - t)^2", make_bit_toy(), {"logits": variance})


def _no_variance(label: str, claim: str, problem: SmallProblem) -> TheoreticalResult:
    """Every draw is the exact gradient of the variational parameters."""
    zeros = {group: torch.zeros_like(value) for group, value in problem.params.items()}
    return TheoreticalResult(label, claim, problem, zeros)


def _exact_mean(label: str, cost: str) -> Iterator[TheoreticalResult]:
    """The mean is exact for such an f of bits or categories, and biased for others."""
    for latents in (BITS, CATEGORIES):
        claim = f"exact mean where f is {cost} in z"
        yield TheoreticalResult(label, claim, make_discrete_toy(latents, cost), exact_mean=True)


KNOWN_RESULTS: tuple[TheoreticalResult, ...] = (
    *(_gaussian("reinforce", "score-function", cost) for cost in CLAIMS),
    *(_gaussian("reparam", "pathwise", cost) for cost in CLAIMS),
    _gaussian("measure-valued", "measure-valued", "quadratic"),
    _quadratic(
        "measure-valued[coupling=false]",
        lambda d, s: (8 / math.pi - 2) * d**2 + 4 / math.pi * s**2,
        lambda d, s: 16 * d**2 * s**2 + 8 * s**4,
    ),
    _quadratic("rloo", _rloo(2)),
    _quadratic("rloo[num_samples=4]", _rloo(4)),
    *_constant_baselines(),
    _one_bit("reinforce"),
    _one_bit("rloo"),
    _one_bit("arm"),
    _one_bit("disarm"),
    _no_variance("disarm", "no variance at theta = 1 / 2", make_bit_toy(((0.5, 0.45), (0.5, 0.499)))),
    *(
        _no_variance(label, "no variance at theta = 1 / 2", make_bit_toy(((0.5, 0.45), (0.5, 0.499))))
        for label in ("disarm-tree", "carms[num_samples=2]")
    ),
    _no_variance("ugc", "no variance on one bit", make_bit_toy()),
    _quadratic(
        "antithetic[base=reinforce]",
        lambda d, _: 8 * d**2,
        lambda d, s: s**2 * (2 * d**4 / s**2 + 20 * d**2 + 74 * s**2),
    ),
    _quadratic("antithetic", lambda d, _: torch.zeros_like(d), lambda _, s: 8 * s**4),
    _no_variance("delta", "no variance on quadratics", QUADRATIC),
    _no_variance("joint-cv", "no variance on quadratics", QUADRATIC),
    _no_variance("joint-cv[removes=noise]", "no variance on quadratics", QUADRATIC),
    _quadratic("joint-cv[removes=data]", lambda _, s: 4 * s**2, lambda d, s: s**2 * (4 * d**2 + 8 * s**2)),
    _no_variance("stl", "no variance where q is the posterior", make_posterior_toy()),
    _no_variance("dreg", "no variance where q is the posterior", make_posterior_toy(importance_samples=2)),
    _no_variance("stl-iwae", "no variance where q is the posterior", make_posterior_toy(importance_samples=2)),
    _no_variance("enumeration", "no variance", make_discrete_toy(CATEGORIES, "quadratic")),
    _no_variance("local-expectation", "no variance on one bit", make_bit_toy()),
    _no_variance("muprop", "no variance where f is linear in z", make_discrete_toy(BITS, "linear")),
    *_exact_mean("straight-through", "linear"),
    *_exact_mean("reinmax", "quadratic"),
    *_exact_mean("zgr", "quadratic"),
    *_exact_mean("mve", "quadratic"),
    _no_variance(
        "reinmax[num_samples=2,control_variate=true]",
        "no variance where f is linear in z",
        make_discrete_toy(CATEGORIES, "linear"),
    ),
    _no_variance(
        "vimco[baseline=signal]", "no variance where q is the posterior", make_posterior_toy(importance_samples=2)
    ),
)
