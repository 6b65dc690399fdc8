"""The certificate: the checks that every estimator and every problem must pass, and their record.

``record`` is read by reports, which work without torch. All that needs torch is therefore imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estbench.certify.certificate import (
        CertifiedVariant,
        certified_variants,
        certify,
        certify_each,
        certify_estimator,
        variants,
    )
    from estbench.certify.checks.unbiasedness import BiasTest, run_bias_tests
    from estbench.certify.estimator_under_test import EstimatorUnderTest
    from estbench.certify.problem_certificate import certify_problem
    from estbench.certify.problems import small_problems_for
    from estbench.certify.problems.base import SmallProblem

_HOMES = {
    "BiasTest": "checks.unbiasedness",
    "CertifiedVariant": "certificate",
    "EstimatorUnderTest": "estimator_under_test",
    "SmallProblem": "problems",
    "certified_variants": "certificate",
    "certify": "certificate",
    "certify_each": "certificate",
    "certify_estimator": "certificate",
    "certify_problem": "problem_certificate",
    "run_bias_tests": "checks.unbiasedness",
    "small_problems_for": "problems",
    "variants": "certificate",
}

__all__ = [
    "BiasTest",
    "CertifiedVariant",
    "EstimatorUnderTest",
    "SmallProblem",
    "certified_variants",
    "certify",
    "certify_each",
    "certify_estimator",
    "certify_problem",
    "run_bias_tests",
    "small_problems_for",
    "variants",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
