"""Biases on polynomials carry no sampling error."""

from __future__ import annotations

import pytest

from estbench.reproduce.measurements import measure


@pytest.fixture(scope="module")
def found():
    settings = {"estimators": ["reinmax", "reinforce"], "degrees": [2, 3], "problems": 3}
    return measure("polynomial_bias", settings)


def test_an_exact_estimator_has_no_bias_at_any_degree(found):
    for degree in (2, 3):
        assert found.quantities[f"reinforce, degree {degree}: largest bias"].high < 1e-12


def test_second_order_is_exact_to_the_second_degree_and_no_further(found):
    assert found.quantities["reinmax, degree 2: largest bias"].high < 1e-12
    assert found.quantities["reinmax, degree 3: smallest bias"].low > 1e-6


def test_all_problems_of_all_families_count(found):
    assert {interval.n for interval in found.quantities.values()} == {6}


def test_noise_that_cannot_be_enumerated_is_refused():
    with pytest.raises(ValueError, match="the noise of 'st-gumbel' cannot be enumerated"):
        measure("polynomial_bias", {"estimators": ["st-gumbel"], "degrees": [1], "problems": 3})
