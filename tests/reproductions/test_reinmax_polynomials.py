"""Biases on polynomials carry no sampling error."""

from __future__ import annotations

import pytest
from shipped_studies import load

from estbench import EstbenchError

STUDY = load("reinmax_polynomials")


@pytest.fixture(scope="module")
def result():
    options = {"estimators": ["reinmax", "reinforce"], "degrees": [2, 3], "problems": 3}
    return STUDY.reinmax_polynomials(options)


def test_an_exact_estimator_has_no_bias_at_any_degree(result):
    for degree in (2, 3):
        assert result.quantities[f"reinforce, degree {degree}: largest bias"].high < 1e-12


def test_second_order_is_exact_to_the_second_degree_and_no_further(result):
    assert result.quantities["reinmax, degree 2: largest bias"].high < 1e-12
    assert result.quantities["reinmax, degree 3: smallest bias"].low > 1e-6


def test_all_problems_of_all_families_count(result):
    assert {interval.n for interval in result.quantities.values()} == {6}


def test_noise_that_cannot_be_enumerated_is_refused():
    with pytest.raises(EstbenchError, match="the noise of 'st-gumbel' cannot be enumerated"):
        STUDY.reinmax_polynomials({"estimators": ["st-gumbel"], "degrees": [1], "problems": 3})
