"""Bias and variance against temperature: the squared bias has no floor, and the worst ratio stands for all."""

from __future__ import annotations

import itertools

import pytest
from shipped_studies import load

from estbench.errors import EstbenchError

STUDY = load("gumbel_softmax_temperature")
OPTIONS = {
    "problem": "categorical, decoder, analytic KL",
    "estimators": ["gumbel-softmax"],
    "temperatures": [0.5, 1.0, 2.0],
    "replicates": 5000,
}
NEXT = "one temperature to the next lower"


def test_bias_grows_and_variance_falls_with_temperature():
    quantities = STUDY.gumbel_softmax_temperature(OPTIONS).quantities
    assert quantities[f"gumbel-softmax: squared bias, {NEXT}, smallest"].low > 1
    assert quantities[f"gumbel-softmax: variance, {NEXT}, largest"].high < 1


def test_a_linear_bias_is_found_as_it_is():
    # Where f is linear, straight-through Gumbel-softmax at a huge temperature has the Jacobian of a uniform softmax
    # over the temperature: nothing. What is left is the gradient of the KL, so the bias is that of the likelihood.
    result = STUDY.gumbel_softmax_temperature({**OPTIONS, "temperatures": [1e6, 2e6], "estimators": ["st-gumbel"]})
    biases = [point["value"] for point in result.points if point["panel"] == "squared bias"]
    assert biases[0] == pytest.approx(biases[1], rel=1e-4)


def test_the_worst_ratio_stands_for_all():
    result = STUDY.gumbel_softmax_temperature(OPTIONS)
    values = [point["value"] for point in result.points if point["panel"] == "variance"]
    ratios = [above / below for below, above in itertools.pairwise(values)]
    assert result.quantities[f"gumbel-softmax: variance, {NEXT}, largest"].value == pytest.approx(max(ratios))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"problem": "categorical, decoder"}, "problem: input should be 'categorical, decoder, analytic KL'"),
        ({"temperatures": [1.0, 0.5]}, "temperatures go up"),
    ],
)
def test_misuse_is_one_line(change, said):
    with pytest.raises(EstbenchError, match=said):
        STUDY.gumbel_softmax_temperature({**OPTIONS, **change})
