"""A theoretical result about one estimator on one problem, a variance or an exact mean, and its check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from estbench.certify.check_result import CheckResult, decide, z_threshold
from estbench.certify.checks.exact_mean import ExactMoments, compare_mean, enumerate_moments
from estbench.certify.checks.unbiasedness import run_bias_tests
from estbench.certify.estimator_under_test import EstimatorUnderTest
from estbench.certify.problems.base import SmallProblem
from estbench.certify.sampling import Gradients, sample_gradients, variance_with_error
from estbench.estimators import Estimator
from estbench.randomness import seeded

DRAWS = 400_000
CHUNK = 20_000
TOLERANCE = 1e-6  # relative error of a variance that is enumerated or integrated
ROUNDING = 1e-20  # of a variance that is zero


@dataclass(frozen=True)
class TheoreticalResult:
    """A result about the estimator ``label`` on a problem.

    ``variance``: the variance of every coordinate by group, (B, ...); NaN for a coordinate without a result.
    ``exact_mean``: the mean gradient is exact on this problem, although the estimator is biased on others.
    ``arrange``: puts the estimator into the state that the result is about, for example a constant baseline.
    """

    label: str
    claim: str
    problem: SmallProblem
    variance: Mapping[str, Tensor] = field(default_factory=dict)
    exact_mean: bool = False
    arrange: Callable[[Estimator], None] | None = None

    @property
    def kind(self) -> str:
        """``closed-form variance``, or ``known exactness`` if the estimator is exact on this problem."""
        positive = any(bool((value > 0).any()) for value in self.variance.values())
        return "closed-form variance" if positive else "known exactness"

    def check(self, tested: EstimatorUnderTest) -> CheckResult:
        """Check the result by enumeration of the estimator's noise if that is possible, otherwise by sampling."""
        estimator = tested.prepared(self.problem)
        if self.arrange is not None:
            self.arrange(estimator)
        moments = enumerate_moments(estimator, self.problem)
        if self.exact_mean:
            return self._check_mean(estimator, moments)
        if moments is not None:
            return self._check_exactly(moments.variance, f"{moments.tuples:,} tuples of draws")
        if self.kind == "known exactness":
            return self._check_exactly(_sample_variance(estimator, self.problem, CHUNK)[0], f"n = {CHUNK:,}")
        return self._check_sampled(*_sample_variance(estimator, self.problem, DRAWS))

    def _check_mean(self, estimator: Estimator, moments: ExactMoments | None) -> CheckResult:
        if moments is not None:
            return compare_mean(moments.mean, self.problem, f"{moments.tuples:,} tuples of draws")
        coordinates = sum(value.numel() for value in self.problem.exact_gradient().values())
        tests = run_bias_tests(estimator, self.problem, coordinates, check="known facts")
        worst = max(tests, key=lambda test: test.z)
        evidence = (
            f"max |z| = {worst.z:.2f}, bound {worst.threshold:.2f}, n = {worst.replicates:,};"
            f" a bias of {worst.detectable:.1%} of the gradient would show"
        )
        return decide(worst.unbiased, evidence, worst.message, worst.z / worst.threshold)

    def _check_exactly(self, variance: Gradients, evidence: str) -> CheckResult:
        """Compare variances that have no sampling error, or should be zero."""
        allowed = {group: TOLERANCE * expected + ROUNDING for group, expected in self.variance.items()}
        severity, message = self._find_worst(variance, allowed)
        if self.kind == "known exactness":
            error = "no variance"
        else:
            error = f"relative error {severity * TOLERANCE:.1e}, bound {TOLERANCE:.0e}"
        return decide(severity <= 1, f"{error}, {evidence}", message, severity)

    def _check_sampled(self, variance: Gradients, error: Gradients) -> CheckResult:
        """Compare sampled variances, with their standard errors."""
        coordinates = sum(int((~expected.isnan()).sum()) for expected in self.variance.values())
        bound = z_threshold("known facts", coordinates)
        severity, message = self._find_worst(variance, {group: bound * error[group] + ROUNDING for group in error})
        evidence = f"max |z| = {severity * bound:.2f}, bound {bound:.2f}, n = {DRAWS:,}"
        return decide(severity <= 1, evidence, message, severity, z=severity * bound, bound=bound, n=DRAWS)

    def _find_worst(self, variance: Gradients, allowed: Gradients) -> tuple[float, str]:
        """Return the largest deviation over the allowed one, and a message about that coordinate."""
        worst, message = 0.0, ""
        for group, expected in self.variance.items():
            with_result = ~expected.isnan()
            severity = float(((variance[group] - expected).abs() / allowed[group])[with_result].max())
            if severity > worst or not message:
                worst = severity
                message = _describe_difference(group, variance[group], expected, allowed[group])
        return worst, message


def _describe_difference(group: str, variance: Tensor, expected: Tensor, allowed: Tensor) -> str:
    """Describe the coordinate with the largest deviation over the allowed one."""
    worst = int(((variance - expected).abs() / allowed).nan_to_num(-1).argmax())
    place = ",".join(str(int(index)) for index in torch.unravel_index(torch.tensor(worst), variance.shape))
    return (
        f"the variance of {group}[{place}] is {float(variance.flatten()[worst]):.6g}, and"
        f" {float(expected.flatten()[worst]):.6g} in theory (+- {float(allowed.flatten()[worst]):.2g})"
    )


def _sample_variance(estimator: Estimator, problem: SmallProblem, count: int) -> tuple[Gradients, Gradients]:
    """Return the variance of every coordinate from ``count`` draws, and its standard error, by group, (B, ...)."""
    with seeded(20, problem.weights.device):
        chunks = [sample_gradients(estimator, problem, CHUNK) for _ in range(max(1, count // CHUNK))]
    variance, error = {}, {}
    for group in chunks[0]:
        variance[group], error[group] = variance_with_error(torch.cat([chunk[group] for chunk in chunks]))
    return variance, error
