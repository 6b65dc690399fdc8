"""Conformance: what every estimator must prove before it is called right."""

from estbench.conformance.certificate import certify, certify_each, certify_subject, variants
from estbench.conformance.settings import Setting, settings_for
from estbench.conformance.subject import Subject
from estbench.conformance.unbiasedness import BiasTest, bias_tests
from estbench.store.certificates import Certificate, Check, Outcome

__all__ = [
    "BiasTest",
    "Certificate",
    "Check",
    "Outcome",
    "Setting",
    "Subject",
    "bias_tests",
    "certify",
    "certify_each",
    "certify_subject",
    "settings_for",
    "variants",
]
