"""The result of one check on one small problem, and the false-alarm rate of a whole certificate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from estbench.certify.problems.base import PRIOR, WEIGHTS
from estbench.certify.record import CheckOutcome

# The usual causes of a wrong mean gradient, by kind of parameter.
CAUSES = {
    "weights": "f is evaluated without its gradient, f is added twice, or a control variate changes the decoder",
    PRIOR: "the prior is built while gradients are off, or the KL is missing or counted twice",
    "parameters": (
        "a baseline that has seen the sample it is subtracted from, a control variate whose expectation is not fully"
        " added back, noise that is detached although it depends on the parameters, a KL that is missing or counted"
        " twice"
    ),
}
FALSE_ALARM = 1e-4  # probability that a correct estimator fails any check on any problem
# The share of it that each statistical check gets; they sum to 1.
SHARES = {
    "unbiased": 0.4,
    "as in a probe": 0.1,
    "one example at a time": 0.1,
    "batch sizes": 0.05,
    "independent calls": 0.1,
    "decoder gradient": 0.05,
    "order of the batch": 0.05,
    "large f": 0.05,
    "known facts": 0.1,
}


class CheckResult(NamedTuple):
    """The result of one check on one small problem.

    ``severity`` is the measured deviation over the allowed one: above 1 the check fails. ``message`` is empty unless
    the check failed or could not decide.
    """

    outcome: CheckOutcome
    evidence: str
    message: str = ""
    severity: float = 0.0
    numbers: Mapping[str, float] = MappingProxyType({})


def decide(passed: bool, evidence: str, message: str = "", severity: float = 0.0, **numbers: float) -> CheckResult:
    """Return the result of a check that could decide; ``message`` is kept only if it failed."""
    outcome = CheckOutcome.PASSED if passed else CheckOutcome.FAILED
    return CheckResult(outcome, evidence, "" if passed else message, severity, numbers)


def not_applicable(reason: str) -> CheckResult:
    """Return the result of a check that says nothing about this estimator; it does not count as passed."""
    return CheckResult(CheckOutcome.NOT_APPLICABLE, reason)


def describe_deviation(group: str, mean: Tensor, exact: Tensor, worst: int, evidence: str) -> str:
    """Describe where a mean gradient differs from the exact one, by how much, and the usual causes.

    ``mean`` and ``exact`` are the gradients of one group, (B, ...); ``worst`` is the flat index of the coordinate.
    """
    place = ",".join(str(int(index)) for index in torch.unravel_index(torch.tensor(worst), mean.shape))
    expected, measured = float(exact.flatten()[worst]), float(mean.flatten()[worst])
    causes = CAUSES[group if group == WEIGHTS else PRIOR if group.startswith(PRIOR) else "parameters"]
    size = float(exact.square().sum())
    ratio = f"; over all of {group}, {float((mean * exact).sum()) / size:.3g} times the exact gradient" if size else ""
    return (
        f"{group}[{place}]: expected {expected:.6g}, measured {measured:.6g} ({evidence}){ratio}."
        f" Usual causes: {causes}"
    )


def z_threshold(check: str, tests: int) -> float:
    """Return the bound of |z| for a check that makes this many tests in all (Bonferroni)."""
    return float(stats.norm.isf(FALSE_ALARM * SHARES[check] / (2 * tests)))
