r"""What theory says about each estimator, one entry a fact; each is checked with the estimator's certificate.

Variances are those of one estimate, with respect to ``loc`` and ``log_scale`` (which is s^2 times that with respect
to s), or to ``logits``. With d = m - k for the Gaussian toys, and p = theta (1 - theta), Delta = 1 - 2t,
m = min(theta, 1 - theta) for one bit. The formulas are those of Mohamed et al. (2020, arXiv:1906.10652, sec. 3) and of
Dong, Mnih and Tucker (2020, arXiv:2006.10680), or derived by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from estbench.conformance import toys
from estbench.conformance.settings import Setting
from estbench.conformance.theory import Known
from estbench.estimators import Estimator
from estbench.problems.latents import BernoulliLatents, CategoricalLatents

Form = Callable[[Tensor, Tensor], Tensor]
BITS = BernoulliLatents(3)
CATEGORIES = CategoricalLatents(2, 3)
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


def _cosine() -> Iterator[Known]:
    """Variances of d/d loc for f = cos(k z), where the path is not always the less noisy way."""
    m, s, k = (toys.column(values) for values in zip(*toys.COSINE, strict=True))
    true = -k * (-((k * s) ** 2) / 2).exp() * (k * m).sin()
    even = (-2 * (k * s) ** 2).exp() * (2 * k * m).cos()
    setting = toys.gaussian("cosine", toys.COSINE)
    yield Known("reparam", "f = cos(k z)", setting, {"loc": k**2 / 2 * (1 - even) - true**2})
    score = (1 + (1 - 4 * (k * s) ** 2) * even) / (2 * s**2) - true**2
    yield Known("reinforce", "f = cos(k z)", setting, {"loc": score})


def _bump() -> Iterator[Known]:
    """Variances of d/d loc for f = exp(-k z^2)."""
    m, s, k = (toys.column(values) for values in zip(*toys.BUMP, strict=True))

    def spread(c: Tensor) -> Tensor:
        return 1 / (1 + 2 * c * s**2)

    def mass(c: Tensor) -> Tensor:
        return spread(c).sqrt() * (-c * m**2 * spread(c)).exp()

    def centre(c: Tensor) -> Tensor:
        return -2 * c * s * m * spread(c)

    true = mass(k) * centre(k) / s
    setting = toys.gaussian("bump", toys.BUMP)
    path = 4 * k**2 * mass(2 * k) * ((m + s * centre(2 * k)) ** 2 + s**2 * spread(2 * k)) - true**2
    yield Known("reparam", "f = exp(-k z^2)", setting, {"loc": path})
    score = mass(2 * k) * (centre(2 * k) ** 2 + spread(2 * k)) / s**2 - true**2
    yield Known("reinforce", "f = exp(-k z^2)", setting, {"loc": score})


def _rloo(samples: int) -> Form:
    """RLOO is the sample covariance of f and the score; its variance with respect to loc, for (z - k)^2."""
    n = samples
    return lambda d, s: (10 * s**2 + 12 * d**2 - (n - 2) / (n - 1) * 4 * d**2 + (4 * d**2 + 2 * s**2) / (n - 1)) / n


def _one_bit(label: str, form: Callable[[Tensor, Tensor], Tensor]) -> Known:
    """Variances for f = (b - t)^2, as functions of theta and t."""
    theta, target = (toys.column(values) for values in zip(*toys.BITS, strict=True))
    return Known(label, "f = (b - t)^2", toys.bits(), {"logits": form(theta, target)})


def _reinforce_bit(theta: Tensor, t: Tensor) -> Tensor:
    return theta * (1 - theta) * ((1 - theta) * (1 - t) ** 2 + theta * t**2) ** 2


def _rloo_bit(theta: Tensor, t: Tensor) -> Tensor:
    p = theta * (1 - theta)
    return 0.5 * (1 - 2 * t) ** 2 * p * (1 - 2 * p)


def _arm_bit(theta: Tensor, t: Tensor) -> Tensor:
    p, m = theta * (1 - theta), torch.minimum(theta, 1 - theta)
    return (1 - 2 * t) ** 2 * (2 / 3 * (1 / 8 - (0.5 - m) ** 3) - p**2)


def _disarm_bit(theta: Tensor, t: Tensor) -> Tensor:
    m = torch.minimum(theta, 1 - theta)
    return 0.5 * (1 - 2 * t) ** 2 * (1 - m) ** 2 * m * (1 - 2 * m)


def _no_variance(label: str, claim: str, setting: Setting) -> Known:
    """Every draw is the exact gradient of the variational parameters."""
    return Known(label, claim, setting, {group: torch.zeros_like(value) for group, value in setting.params.items()})


def _exact_mean(label: str, cost: str) -> Iterator[Known]:
    """The mean is exact on such f, of bits and of categories, though not on others."""
    for latents in (BITS, CATEGORIES):
        yield Known(label, f"exact mean where f is {cost} in z", toys.discrete(latents, cost), exact_mean=True)


FACTS: tuple[Known, ...] = (
    _quadratic(
        "reinforce",
        lambda d, s: d**4 / s**2 + 14 * d**2 + 15 * s**2,
        lambda d, s: s**2 * (2 * d**4 / s**2 + 60 * d**2 + 74 * s**2),
    ),
    _quadratic("reparam", lambda _, s: 4 * s**2, lambda d, s: s**2 * (4 * d**2 + 8 * s**2)),
    _quadratic("rloo", _rloo(2)),
    _quadratic("rloo[num_samples=4]", _rloo(4)),
    *_constant_baselines(),
    *_cosine(),
    *_bump(),
    _one_bit("reinforce", _reinforce_bit),
    _one_bit("rloo", _rloo_bit),
    _one_bit("arm", _arm_bit),
    _one_bit("disarm", _disarm_bit),
    _no_variance("disarm", "no variance at theta = 1 / 2", toys.bits(((0.5, 0.45), (0.5, 0.499)))),
    _quadratic(
        "antithetic[base=reinforce]",
        lambda d, _: 8 * d**2,
        lambda d, s: s**2 * (2 * d**4 / s**2 + 20 * d**2 + 74 * s**2),
    ),
    _quadratic("antithetic", lambda d, _: torch.zeros_like(d), lambda _, s: 8 * s**4),
    _quadratic(
        "measure-valued",
        lambda d, _: (16 / math.pi - 4) * d**2,
        lambda d, s: s**2 * (4 * d**2 + 4 * s**2),
    ),
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
