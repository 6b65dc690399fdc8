"""What theory says about one estimator on one problem, and whether it is so: a variance, or an exact mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from estbench.certify.checks import enumeration
from estbench.certify.checks.unbiasedness import bias_tests
from estbench.certify.sampling import Gradients, gradients
from estbench.certify.settings.base import Setting
from estbench.certify.subject import Subject
from estbench.certify.verdict import Verdict, threshold, verdict
from estbench.estimators import Estimator
from estbench.randomness import seeded

DRAWS = 400_000
CHUNK = 20_000
# Of a variance that is enumerated or integrated, relative to itself; and what rounding leaves of one that is zero.
TOLERANCE = 1e-6
NOTHING = 1e-20


@dataclass(frozen=True)
class Known:
    """A fact about the estimator called ``label``.

    ``variance`` gives the variance of every coordinate by group, (B, ...), a NaN where nothing is claimed;
    ``exact_mean`` says that the mean gradient is exact, of one that is biased elsewhere. ``arrange`` puts the
    estimator into the state that the fact is about: a baseline that is a given constant, say.
    """

    label: str
    claim: str
    setting: Setting
    variance: Mapping[str, Tensor] = field(default_factory=dict)
    exact_mean: bool = False
    arrange: Callable[[Estimator], None] | None = None

    @property
    def kind(self) -> str:
        """A variance by a formula, or a case in which the estimator is exact."""
        positive = any(bool((value > 0).any()) for value in self.variance.values())
        return "closed-form variance" if positive else "known exactness"

    def check(self, subject: Subject) -> Verdict:
        """Whether it is so: by enumeration of the estimator's noise where that can be done, else by sampling."""
        estimator = subject.prepared(self.setting)
        if self.arrange is not None:
            self.arrange(estimator)
        found = enumeration.expectation(estimator, self.setting)
        if self.exact_mean:
            return self._mean(estimator, found)
        if found is not None:
            return self._equal(found.variance, f"{found.tuples:,} tuples of draws")
        if self.kind == "known exactness":
            return self._equal(_sampled(estimator, self.setting, CHUNK)[0], f"n = {CHUNK:,}")
        return self._within(*_sampled(estimator, self.setting, DRAWS))

    def _mean(self, estimator: Estimator, found: enumeration.Expectation | None) -> Verdict:
        if found is not None:
            return enumeration.compare(found.mean, self.setting, f"{found.tuples:,} tuples of draws")
        coordinates = sum(value.numel() for value in self.setting.exact().values())
        worst = max(bias_tests(estimator, self.setting, coordinates, check="known facts"), key=lambda test: test.z)
        evidence = (
            f"max |z| = {worst.z:.2f}, bound {worst.threshold:.2f}, n = {worst.replicates:,};"
            f" a bias of {worst.detectable:.1%} of the gradient would show"
        )
        return verdict(worst.unbiased, evidence, worst.message, worst.z / worst.threshold)

    def _equal(self, found: Gradients, how: str) -> Verdict:
        """Variances without sampling error, or that are zero."""
        worst, message = 0.0, ""
        for group, expected in self.variance.items():
            known = ~expected.isnan()
            allowed = TOLERANCE * expected + NOTHING
            strain = float(((found[group] - expected).abs() / allowed)[known].max())
            if strain > worst or not message:
                worst, message = strain, _said(group, found[group], expected, allowed)
        nothing = self.kind == "known exactness"
        evidence = "no variance" if nothing else f"relative error {worst * TOLERANCE:.1e}, bound {TOLERANCE:.0e}"
        return verdict(worst <= 1, f"{evidence}, {how}", message, worst)

    def _within(self, found: Gradients, error: Gradients) -> Verdict:
        """Sampled variances, by their standard errors (from the fourth moment)."""
        coordinates = sum(int((~expected.isnan()).sum()) for expected in self.variance.values())
        bound = threshold("known facts", coordinates)
        worst, message = 0.0, ""
        for group, expected in self.variance.items():
            known = ~expected.isnan()
            allowed = bound * error[group] + NOTHING
            strain = float(((found[group] - expected).abs() / allowed)[known].max())
            if strain > worst or not message:
                worst, message = strain, _said(group, found[group], expected, allowed)
        evidence = f"max |z| = {worst * bound:.2f}, bound {bound:.2f}, n = {DRAWS:,}"
        return verdict(worst <= 1, evidence, message, worst, z=worst * bound, bound=bound, n=DRAWS)


def _said(group: str, found: Tensor, expected: Tensor, allowed: Tensor) -> str:
    """The coordinate that is furthest off."""
    worst = int(((found - expected).abs() / allowed).nan_to_num(-1).argmax())
    place = ",".join(str(int(index)) for index in torch.unravel_index(torch.tensor(worst), found.shape))
    return (
        f"the variance of {group}[{place}] is {float(found.flatten()[worst]):.6g}, and"
        f" {float(expected.flatten()[worst]):.6g} in theory (+- {float(allowed.flatten()[worst]):.2g})"
    )


def _sampled(estimator: Estimator, setting: Setting, count: int) -> tuple[Gradients, Gradients]:
    """Variances by group, and their standard errors: Var(s^2) = (mu4 - s^4 (n - 3) / (n - 1)) / n."""
    with seeded(20, setting.weights.device):
        chunks = [gradients(estimator, setting, CHUNK) for _ in range(max(1, count // CHUNK))]
    variance, error = {}, {}
    for group in chunks[0]:
        drawn = torch.cat([chunk[group] for chunk in chunks])
        n = len(drawn)
        variance[group] = drawn.var(0)
        fourth = (drawn - drawn.mean(0)).pow(4).mean(0)
        error[group] = ((fourth - variance[group].square() * (n - 3) / (n - 1)) / n).clamp(min=0).sqrt()
    return variance, error
