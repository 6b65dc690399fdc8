"""Every registered estimator, with each choice of options that it declares, holds its certificate.

A new estimator is tested by existing. With each change of the code, a test compares the source with the one that its
shipped certificate is about. To make all certificates again is slow; their false-alarm rate of 1e-4 is that of a fixed
seed.
"""

from __future__ import annotations

import pytest

from estbench import estimators
from estbench.certify import certify, variants
from estbench.certify.record import shipped_certificates
from estbench.source import fingerprint

LABELS = [label for name in estimators.names() for label in variants(name)]


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Tensors this small are slower on two."""


@pytest.mark.slow
@pytest.mark.parametrize("name", estimators.names())
def test_its_certificate_passes(name):
    """Of the default options; with others, the same source passed when its certificate was recorded."""
    certificate = certify(name)
    assert certificate.complaints() == []
    assert certificate.outcome == "passed"


@pytest.mark.parametrize("label", LABELS)
def test_its_shipped_certificate_is_of_this_source(label):
    """Update it with `estbench check --all --record`."""
    source = fingerprint(estimators.ESTIMATORS.get(label.partition("[")[0]))
    shipped = shipped_certificates()
    assert label in shipped
    assert shipped[label].outcome == "passed"
    assert shipped[label].fingerprint == source


def test_no_certificate_ships_without_its_estimator():
    assert sorted(shipped_certificates()) == sorted(LABELS)
