"""The certificate of a problem: that it is what it declares, and what training and measuring rely on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from estbench._version import __version__
from estbench.certify.check_result import CheckResult, run_check, skipped
from estbench.certify.problem_checks.data import check_data, check_observations
from estbench.certify.problem_checks.distributions import check_bounds, check_kl, check_parameters
from estbench.certify.problem_checks.estimates import check_probe
from estbench.certify.problem_checks.exact import check_exact
from estbench.certify.problem_checks.examples import check_examples_apart, check_leading_dimensions
from estbench.certify.problem_checks.groups import check_groups
from estbench.certify.problem_checks.modes import check_eval_mode, check_left_as_found
from estbench.certify.problem_checks.state import check_initial_weights, check_resume, check_save_and_load
from estbench.certify.problem_under_test import ProblemUnderTest
from estbench.certify.record import Certificate, Check, CheckOutcome, find_worst
from estbench.problems import PROBLEMS
from estbench.source import fingerprint

# The checks by name, in the order in which they are made and shown.
CHECKS: dict[str, Callable[[ProblemUnderTest], CheckResult]] = {
    "data": check_data,
    "observations": check_observations,
    "parameters": check_parameters,
    "eval mode": check_eval_mode,
    "leading dimensions": check_leading_dimensions,
    "bounds": check_bounds,
    "closed-form KL": check_kl,
    "examples apart": check_examples_apart,
    "groups": check_groups,
    "exact objective": check_exact,
    "initial weights": check_initial_weights,
    "save and load": check_save_and_load,
    "resume": check_resume,
    "probe": check_probe,
    "left as found": check_left_as_found,
}
# All checks that follow these build on them. If one of them fails, the later ones would only repeat its defect.
BASIC = ("data", "observations", "parameters", "eval mode", "leading dimensions", "bounds")
NEEDS = {"resume": ("initial weights", "save and load"), "left as found": ("probe",)}


def certify_problem(variant: str) -> Certificate:
    """Check a registered problem, ``name[option=value,...]``, on the CPU, on a few examples of each split.

    A check that cannot be made is ``not applicable``, with the reason as its evidence, and never counts as passed.
    Raises ``EstbenchError`` if there is no such problem or option.

    Examples
    --------
    >>> from estbench.certify import certify_problem
    >>> certificate = certify_problem("bernoulli_toy[bits=2]")
    >>> print(certificate.outcome)
    passed
    >>> certificate.complaints()
    []
    """
    label = PROBLEMS.resolve(variant).label
    tested = ProblemUnderTest(label)
    started = time.perf_counter()
    checks = tuple(_check_each(tested))
    return Certificate(
        label=label,
        fingerprint=fingerprint(tested.cls),
        outcome=find_worst(list(checks)).outcome,
        versions={"estbench": __version__, "torch": str(torch.__version__)},
        seconds=round(time.perf_counter() - started, 1),
        checks=checks,
    )


def _check_each(tested: ProblemUnderTest) -> Iterator[Check]:
    failed: list[str] = []
    for name, check in CHECKS.items():
        lacking = [each for each in failed if each in (*BASIC, *NEEDS.get(name, ()))]
        made = run_check(name, "", lambda check=check, lacking=lacking: _skip(lacking) if lacking else check(tested))  # type: ignore[misc]
        if made.outcome is CheckOutcome.FAILED:
            failed.append(name)
        yield made


def _skip(lacking: list[str]) -> CheckResult:
    return skipped(f"it builds on '{lacking[0]}', which failed; mend that first")
