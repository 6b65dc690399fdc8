r"""What theory says about each estimator, one entry a fact; each is checked with the estimator's certificate.

Variances are those of one estimate, with respect to ``loc`` and ``log_scale`` (which is s^2 times that with respect
to s), or to ``logits``. With d = m - k for the Gaussian toys, and p = theta (1 - theta), Delta = 1 - 2t,
m = min(theta, 1 - theta) for one bit. The formulas are those of Mohamed et al. (2020, arXiv:1906.10652, sec. 3) and of
Dong, Mnih and Tucker (2020, arXiv:2006.10680), or derived by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from estbench.certify import toys
from estbench.certify.settings.base import Setting
from estbench.certify.theory import Known
from estbench.estimators import Estimator
from estbench.latents import BernoulliLatents, CategoricalLatents
from estbench.problems import bernoulli_toy, gaussian_variances
from estbench.problems.gaussian_variances import Cost

Form = Callable[[Tensor, Tensor], Tensor]
BITS = BernoulliLatents(3)
CATEGORIES = CategoricalLatents(2, 3)
COSTS: tuple[Cost, ...] = ("quadratic", "cosine", "exponential")
CLAIMS = {"quadratic": "f = (z - k)^2", "cosine": "f = cos(k z)", "exponential": "f = exp(-k z^2)"}
QUADRATIC = toys.gaussian("quadratic", toys.QUADRATIC)


def facts_of(label: str) -> list[Known]:
    """What is known about an estimator with its options."""
    return [fact for fact in FACTS if fact.label == label]


def _quadratic(label: str, loc: Form | None, log_scale: Form | None = None) -> Known:
    """Variances for f = (z - k)^2, as functions of d and s."""
    mean, deviation, k = (toys.column(values) for values in zip(*toys.QUADRATIC, strict=True))
    forms = {"loc": loc, "log_scale": log_scale}
    variance = {group: form(mean - k, deviation) for group, form in forms.items() if form is not None}
    return Known(label, "f = (z - k)^2", QUADRATIC, variance)


def _constant_baselines() -> Iterator[Known]:
    """The score function with a constant taken from f: a moving average that holds it. One example each."""
    forms: dict[str, tuple[Form, str, Form]] = {
        "the mean of f": (lambda d, s: d**2 + s**2, "loc", lambda d, s: 8 * d**2 + 10 * s**2),
        "the best for loc": (lambda d, s: d**2 + 3 * s**2, "loc", lambda d, s: 8 * d**2 + 6 * s**2),
        "the best for log_scale": (
            lambda d, s: d**2 + 5 * s**2,
            "log_scale",
            lambda d, s: s**2 * (40 * d**2 + 24 * s**2),
        ),
    }
    for what, (baseline, group, form) in forms.items():
        for row in toys.QUADRATIC:
            d, s = toys.column([row[0] - row[2]]), toys.column([row[1]])
            yield Known(
                "reinforce[baseline=ema]",
                f"f = (z - k)^2, the baseline is {what}",
                toys.gaussian("quadratic", (row,)),
                {group: form(d, s)},
                arrange=_holding(float(baseline(d, s))),
            )
    for theta, target in toys.BITS:
        best = (1 - theta) * (1 - target) ** 2 + theta * target**2
        yield Known(
            "reinforce[baseline=ema]",
            "no variance on one bit with the best baseline",
            toys.bits(((theta, target),)),
            {"logits": torch.zeros(1, 1, dtype=torch.float64)},
            arrange=_holding(best),
        )


def _holding(constant: float) -> Callable[[Estimator], None]:
    """A moving average of weight one is the constant that it holds."""

    def arrange(estimator: Estimator) -> None:
        state = {"baseline.mean": constant, "baseline.weight": 1.0}
        estimator.load_state_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in state.items()})

    return arrange


def _tabled(label: str, form: Literal["score-function", "pathwise", "measure-valued"], cost: Cost) -> Known:
    """The variances that ``gaussian_variances`` has; of the others than quadratics, those of d/d loc."""
    rows = {"quadratic": toys.QUADRATIC, "cosine": toys.COSINE, "exponential": toys.EXPONENTIAL}[cost]
    variance = {"loc": toys.column([gaussian_variances.variance(cost, form, "loc", *row) for row in rows])}
    if cost == "quadratic":
        # The gradient with respect to log s is s times that with respect to s.
        variance["log_scale"] = toys.column(
            [row[1] ** 2 * gaussian_variances.variance(cost, form, "scale", *row) for row in rows]
        )
    return Known(label, CLAIMS[cost], toys.gaussian(cost, rows), variance)


def _rloo(samples: int) -> Form:
    """RLOO is the sample covariance of f and the score; its variance with respect to loc, for (z - k)^2."""
    n = samples
    return lambda d, s: (10 * s**2 + 12 * d**2 - (n - 2) / (n - 1) * 4 * d**2 + (4 * d**2 + 2 * s**2) / (n - 1)) / n


def _one_bit(label: Literal["reinforce", "rloo", "arm", "disarm"]) -> Known:
    """Variances for f = (b - t)^2, as ``bernoulli_toy`` has them."""
    variance = toys.column([bernoulli_toy.variance(label, theta, target) for theta, target in toys.BITS])
    return Known(label, "f = (b - t)^2", toys.bits(), {"logits": variance})


def _no_variance(label: str, claim: str, setting: Setting) -> Known:
    """Every draw is the exact gradient of the variational parameters."""
    return Known(label, claim, setting, {group: torch.zeros_like(value) for group, value in setting.params.items()})


def _exact_mean(label: str, cost: str) -> Iterator[Known]:
    """The mean is exact on such f, of bits and of categories, though not on others."""
    for latents in (BITS, CATEGORIES):
        yield Known(label, f"exact mean where f is {cost} in z", toys.discrete(latents, cost), exact_mean=True)


FACTS: tuple[Known, ...] = (
    *(_tabled("reinforce", "score-function", cost) for cost in COSTS),
    *(_tabled("reparam", "pathwise", cost) for cost in COSTS),
    _tabled("measure-valued", "measure-valued", "quadratic"),
    _quadratic("rloo", _rloo(2)),
    _quadratic("rloo[num_samples=4]", _rloo(4)),
    *_constant_baselines(),
    _one_bit("reinforce"),
    _one_bit("rloo"),
    _one_bit("arm"),
    _one_bit("disarm"),
    _no_variance("disarm", "no variance at theta = 1 / 2", toys.bits(((0.5, 0.45), (0.5, 0.499)))),
    _quadratic(
        "antithetic[base=reinforce]",
        lambda d, _: 8 * d**2,
        lambda d, s: s**2 * (2 * d**4 / s**2 + 20 * d**2 + 74 * s**2),
    ),
    _quadratic("antithetic", lambda d, _: torch.zeros_like(d), lambda _, s: 8 * s**4),
    _no_variance("delta", "no variance on quadratics", QUADRATIC),
    _no_variance("stl", "no variance where q is the posterior", toys.posterior()),
    _no_variance("dreg", "no variance where q is the posterior", toys.posterior(importance_samples=2)),
    _no_variance("stl-iwae", "no variance where q is the posterior", toys.posterior(importance_samples=2)),
    _no_variance("enumeration", "no variance", toys.discrete(CATEGORIES, "quadratic")),
    _no_variance("local-expectation", "no variance on one bit", toys.bits()),
    _no_variance("muprop", "no variance where f is linear in z", toys.discrete(BITS, "linear")),
    *_exact_mean("straight-through", "linear"),
    *_exact_mean("reinmax", "quadratic"),
    *_exact_mean("zgr", "quadratic"),
)
