"""Conformance: what every estimator must prove before it is called right."""

from estbench.conformance.settings import Setting, settings_for
from estbench.conformance.unbiasedness import BiasTest, bias_tests

__all__ = ["BiasTest", "Setting", "bias_tests", "settings_for"]
