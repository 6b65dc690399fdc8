"""The bias of score functions at finite K: enumerated, against what can be written down for one bit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from estbench.certify.problems import SMALL
from estbench.errors import EstbenchError
from estbench.latents import BernoulliLatents
from estbench.reproduce import Expectation
from estbench.reproduce.measurements import measure
from estbench.reproduce.measurements.multi_sample_bias import mean_gradient, weighted_scores

BITS = "bernoulli, exponential, multi-sample"


@pytest.fixture
def one_bit():
    """A single bit with theta = 0.3, two samples, and log p(x|z) = exp(w z / 2)."""
    setting = next(setting for setting in SMALL if setting.name == BITS)
    return dataclasses.replace(
        setting,
        latents=BernoulliLatents(1),
        params={"logits": torch.tensor([[0.3]], dtype=torch.float64).logit()},
        weights=torch.tensor([[1.7]], dtype=torch.float64),
        importance_samples=2,
    )


def test_the_weighted_scores_are_those_of_four_pairs(one_bit):
    theta = torch.tensor(0.3, dtype=torch.float64)
    one = torch.tensor(1.7 / 2, dtype=torch.float64).exp().exp() / 2 / theta
    zero = torch.tensor(1.0, dtype=torch.float64).exp() / 2 / (1 - theta)
    share = one / (one + zero)
    alike = theta**2 * (1 - theta) - (1 - theta) ** 2 * theta
    unlike = 2 * theta * (1 - theta) * (share * (1 - theta) - (1 - share) * theta)
    torch.testing.assert_close(weighted_scores(one_bit), (alike + unlike).view(1, 1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("variant", "gamma"), [("vimco", 0.0), ("ovis", 0.0), ("ovis[gamma=0.3]", 0.3)])
def test_a_bias_is_gamma_times_the_weighted_scores(variant, gamma, one_bit):
    bias = mean_gradient(variant, one_bit) - one_bit.exact_gradient()["logits"]
    torch.testing.assert_close(bias, gamma * weighted_scores(one_bit), rtol=1e-10, atol=1e-12)


def measured(gamma):
    return measure("multi_sample_bias", {"problems": [BITS], "samples": [2, 3], "gamma": gamma})


def verdict(found, quantity, relation, value):
    expectation = Expectation(quantity=quantity, relation=relation, value=value, source="s")
    return expectation.verdict(found.quantities[quantity])


def test_the_unbiased_is_told_from_the_biased():
    found = measured({"vimco": 0.0, "ovis[gamma=1.0]": 1.0})
    assert verdict(found, "vimco: largest bias", "less", 1e-10) == "reproduced"
    assert verdict(found, "ovis[gamma=1.0]: smallest bias", "greater", 0.02) == "reproduced"
    assert verdict(found, "ovis[gamma=1.0]: largest bias", "less", 1e-10) == "contradicted"
    assert verdict(found, "largest distance from gamma E[sum_k v_k s_k]", "less", 1e-10) == "reproduced"
    assert len(found.points) == 4


def test_a_wrong_gamma_is_contradicted():
    found = measured({"ovis[gamma=1.0]": 0.5})
    assert verdict(found, "largest distance from gamma E[sum_k v_k s_k]", "less", 1e-10) == "contradicted"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"problems": ["bernoulli, quadratic"]}, "unknown problem 'bernoulli, quadratic'"),
        ({"problems": ["normal, cosine, multi-sample"]}, "unknown problem 'normal, cosine, multi-sample'"),
        ({"gamma": {"arm": 0.0}}, "is for the ELBO"),
        ({"samples": [9]}, "4096"),
    ],
)
def test_a_mistake_is_one_line(changed, said):
    settings = {"problems": [BITS], "samples": [2], "gamma": {"vimco": 0.0}, **changed}
    with pytest.raises(EstbenchError, match=said):
        measure("multi_sample_bias", settings)
