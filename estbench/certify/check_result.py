"""The result of one check, how it becomes a record, and the false-alarm rate of a whole certificate."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from estbench.certify.problems.base import PRIOR, WEIGHTS
from estbench.certify.record import USUAL_CAUSES, Check, CheckOutcome
from estbench.failures import failure_of

# The usual causes of a wrong mean gradient, by kind of parameter.
CAUSES = {
    "weights": "f is evaluated without its gradient, f is added twice, or a control variate changes the decoder",
    PRIOR: "the prior is built while gradients are off, or the KL is missing or counted twice",
    "parameters": (
        "a baseline that has seen the sample it is subtracted from, a control variate whose expectation is not fully"
        " added back, noise that is detached although it depends on the parameters, samples whose scale is not that of"
        " q, a KL that is missing or counted twice"
    ),
}
# A mean gradient is the opposite of the exact one if it is -1 times it, within this.
OPPOSITE = 0.05
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


def run_check(name: str, problem: str, check: Callable[[], CheckResult]) -> Check:
    """Run a check and return its record; an error of what is checked fails this check and stops no other."""
    try:
        result = check()
    except Exception as error:  # noqa: BLE001  (code of a plugin may raise anything)
        failure = failure_of(error)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        own = f"({frame.filename.rpartition('/')[2]}, line {frame.lineno})"
        message = failure.reason if failure.place else f"{failure.reason} {own}"
        result = CheckResult(CheckOutcome.FAILED, "it raised an error", message)
    return Check(
        name=name,
        problem=problem,
        outcome=result.outcome,
        evidence=result.evidence,
        message=result.message,
        severity=result.severity if math.isfinite(result.severity) else 1e300,  # JSON has no infinity
        numbers={key: float(number) for key, number in result.numbers.items() if math.isfinite(number)},
    )


def decide(passed: bool, evidence: str, message: str = "", severity: float = 0.0, **numbers: float) -> CheckResult:
    """Return the result of a check that could decide; ``message`` is kept only if it failed."""
    outcome = CheckOutcome.PASSED if passed else CheckOutcome.FAILED
    return CheckResult(outcome, evidence, "" if passed else message, severity, numbers)


def passed(evidence: str) -> CheckResult:
    """Return the result of a check that passed."""
    return CheckResult(CheckOutcome.PASSED, evidence)


def failed(message: str, severity: float = 0.0) -> CheckResult:
    """Return the result of a check that failed; the message says what was found, and what to do."""
    return CheckResult(CheckOutcome.FAILED, "", message, severity)


def not_applicable(reason: str) -> CheckResult:
    """Return the result of a check that says nothing about this estimator; it does not count as passed."""
    return CheckResult(CheckOutcome.NOT_APPLICABLE, reason)


def skipped(reason: str) -> CheckResult:
    """Return the result of a check that cannot be made here; it does not count as passed."""
    return not_applicable(f"skipped: {reason}")


def describe_deviation(group: str, mean: Tensor, exact: Tensor, worst: int, evidence: str) -> str:
    """Describe where a mean gradient differs from the exact one, by how much, and the usual causes.

    ``mean`` and ``exact`` are the gradients of one group, (B, ...); ``worst`` is the flat index of the coordinate.
    """
    place = ",".join(str(int(index)) for index in torch.unravel_index(torch.tensor(worst), mean.shape))
    expected, measured = float(exact.flatten()[worst]), float(mean.flatten()[worst])
    causes = CAUSES[group if group == WEIGHTS else PRIOR if group.startswith(PRIOR) else "parameters"]
    size = float(exact.square().sum())
    times = float((mean * exact).sum()) / size if size else math.nan
    ratio = f"; over all of {group}, {times:.3g} times the exact gradient" if size else ""
    if abs(times + 1) < OPPOSITE:
        causes = "its sign: the surrogate is ascended, so that it is no loss; return it without a minus"
    return (
        f"{group}[{place}]: expected {expected:.6g}, measured {measured:.6g} ({evidence}){ratio}."
        f" {USUAL_CAUSES}{causes}"
    )


def z_threshold(check: str, tests: int) -> float:
    """Return the bound of |z| for a check that makes this many tests in all (Bonferroni)."""
    return float(stats.norm.isf(FALSE_ALARM * SHARES[check] / (2 * tests)))
