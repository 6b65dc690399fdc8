"""ReinMax-Rao against ReinMax, at the same weights."""

from __future__ import annotations

import pytest
import torch
from shipped_studies import load

from estbench import problems

STUDY = load("reinmax_rao")
PROBLEM = "vae[dataset=digits,latents=categorical,latent_size=2,categories=3,hidden=[4]]"


@pytest.fixture(scope="module")
def result():
    options = {"problem": PROBLEM, "steps": [0, 3], "temperatures": [0.3, 3.0], "seeds": 3, "draws": 4, "examples": 4}
    return STUDY.reinmax_rao({**options, "replicates": 60})


def test_every_temperature_and_step_has_its_quantities_and_points(result):
    assert len(result.quantities) == 2 * 2 * 3
    assert len(result.points) == 2 * 2 * 3
    assert {interval.n for interval in result.quantities.values()} == {3}


def test_a_soft_jacobian_is_short(result):
    """At a high temperature the part of the Jacobian that depends on the sample is close to zero: bias for noise."""
    for step in (0, 3):
        assert result.quantities[f"t = 3, step {step}: variance / ReinMax's"].high < 0.5
        assert result.quantities[f"t = 3, step {step}: squared bias more than ReinMax's"].value > 0


def test_the_exact_gradient_is_that_of_the_mean_over_the_batch():
    model = problems.create(PROBLEM)
    x = torch.from_numpy(model.data.train[:4])
    (first, *_), one = STUDY.exact_gradient(model, x), [STUDY.exact_gradient(model, x[i : i + 1])[0] for i in range(4)]
    torch.testing.assert_close(first, torch.stack(one).mean(0))
