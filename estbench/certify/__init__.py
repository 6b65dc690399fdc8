"""The certificate: what every estimator must prove before it is called right, and its record.

The record (``estbench.certify.record``) is read without torch, so what needs torch is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estbench.certify.certificate import certify, certify_each, certify_subject, variants
    from estbench.certify.checks.unbiasedness import BiasTest, bias_tests
    from estbench.certify.settings import settings_for
    from estbench.certify.settings.base import Setting
    from estbench.certify.subject import Subject

_HOMES = {
    "BiasTest": "checks.unbiasedness",
    "Setting": "settings",
    "Subject": "subject",
    "bias_tests": "checks.unbiasedness",
    "certify": "certificate",
    "certify_each": "certificate",
    "certify_subject": "certificate",
    "settings_for": "settings",
    "variants": "certificate",
}

__all__ = [
    "BiasTest",
    "Setting",
    "Subject",
    "bias_tests",
    "certify",
    "certify_each",
    "certify_subject",
    "settings_for",
    "variants",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
