"""Mistakes in an estimator's name or options are one readable line that says what to do."""

from __future__ import annotations

import re

import pytest

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.options import BaseOptions
from estbench.problems import Problem

WRONG = {
    "rloo[num_samples=1]": "num_samples: input should be greater than or equal to 2, got 1",
    "reinforce[num_samples=0]": "num_samples: input should be greater than or equal to 1, got 0",
    "reinforce[num_samples=2.5]": "num_samples: input should be a valid integer",
    "reinforce[num_samples=two]": 'got "two"',
    "reinforce[num_sample=2]": "did you mean 'num_samples'",
    "reinforce[decay=0.5]": "option 'decay' has no effect with baseline=none; drop it",
    "reinforce[hidden=5]": "option 'hidden' has no effect with baseline=none; drop it",
    "reinforce[baseline=ema,hidden=5]": "option 'hidden' has no effect with baseline=ema; drop it",
    "reinforce[baseline=ema,decay=1]": "decay: input should be less than 1",
    "reinforce[baseline=ema,decay=-0.1]": "decay: input should be greater than or equal to 0",
    "reinforce[baseline=nvil,hidden=0]": "hidden: input should be greater than or equal to 1",
    "reinforce[baseline=mean]": "baseline: input should be 'none', 'ema', 'nvil', 'optimal' or 'group'",
    "rloo[baseline=ema]": "unknown key 'baseline'",
    "reparam[num_samples=2]": "unknown key 'num_samples'",
    "reinforc": "did you mean 'reinforce'",
    "rloo[num_samples]": "write option=value",
    "rloo[num_samples=2,num_samples=3]": "given twice",
    "rloo[num_samples=2": "cannot read",
    "": "cannot read",
}


@pytest.mark.parametrize(("variant", "said"), WRONG.items(), ids=WRONG)
def test_a_wrong_variant_is_an_error_that_says_what_to_do(variant, said):
    with pytest.raises(EstbenchError, match=re.escape(said)) as caught:
        estimators.create(variant)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert variant.partition("[")[0] in message


DEFAULTS = {
    "num_samples": 1,
    "baseline": "none",
    "decay": 0.9,
    "hidden": 100,
    "normalise": False,
    "baseline_draws": 10,
}


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("reinforce", DEFAULTS),
        (
            "reinforce[baseline=nvil, num_samples=2,hidden=7]",
            DEFAULTS | {"num_samples": 2, "baseline": "nvil", "hidden": 7},
        ),
        ("rloo[num_samples=4]", {"num_samples": 4}),
        ("reparam", {}),
    ],
)
def test_options_are_read_as_written_with_defaults_for_the_rest(variant, expected):
    assert estimators.create(variant).options.model_dump() == expected


@pytest.mark.parametrize(
    ("variant", "evaluations"), [("rloo", 2), ("rloo[num_samples=5]", 5), ("reinforce[num_samples=3]", 3)]
)
def test_the_cost_follows_the_number_of_samples(variant, evaluations):
    estimator = estimators.create(variant)
    assert estimator.evaluations == estimator.facts()["evaluations"] == evaluations


def test_an_estimator_is_refused_for_latents_that_it_does_not_support():
    class Coins(Problem):
        name = "coins"
        latents = "bernoulli"

    estimators.check_supports(estimators.ESTIMATORS.get("reinforce"), Coins, BaseOptions())
    with pytest.raises(EstbenchError, match=r"'reparam' requires a differentiable sample .*'coins' has bernoulli"):
        estimators.check_supports(estimators.ESTIMATORS.get("reparam"), Coins, BaseOptions())
