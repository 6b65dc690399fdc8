"""No training step waits for the device, and its numbers are the CPU's: every estimator on every kind of latents."""

from __future__ import annotations

import pytest
import torch

from estbench.certify.simulated_device import SimulatedDevice
from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS
from estbench.execution.planning import check_pair
from estbench.problems import PROBLEMS
from estbench.randomness import seeded
from estbench.training import take_steps
from estbench.training.state import fingerprint

SMALL = "dataset=digits,hidden=[8]"
PROBLEMS_OF = {
    "normal": f"vae[{SMALL},latent_size=2]",
    "full covariance": f"vae[{SMALL},latent_size=2,posterior=full]",
    "gamma": f"vae[{SMALL},latent_size=2,latents=gamma]",
    "bits": f"vae[{SMALL},latent_size=3,latents=bernoulli]",
    "categories": f"vae[{SMALL},latent_size=2,latents=categorical,categories=3]",
    "multi-sample": f"vae[{SMALL},latent_size=2,importance_samples=3]",
    "multi-sample bits": f"vae[{SMALL},latent_size=3,latents=bernoulli,importance_samples=3]",
    "two layers": f"hierarchical_vae[{SMALL},latent_size=2]",
    "mixed": f"mixed_vae[{SMALL}]",
}
# On these problems a few estimators: their families are those of above.
MORE_PROBLEMS = {
    "vae[dataset=digits,network=conv[channels=[4]],likelihood=gaussian,prior=learned,latent_size=2]": (
        "reparam",
        "rloo",
    ),
    "vae[dataset=digits,latents=student-t,hidden=[8],latent_size=2]": ("implicit",),
    "vae[dataset=digits,latents=beta,hidden=[8],latent_size=2]": ("implicit",),
    "vae[dataset=digits,latents=dirichlet,hidden=[8],latent_size=2]": ("implicit",),
    "vae[dataset=digits,latents=poisson,hidden=[8],latent_size=2]": (
        "rloo",
        "measure-valued",
        "arrival-times",
        "arrival-times[hard=true]",
    ),
    "vae[dataset=digits,latents=weibull,hidden=[8],latent_size=2]": ("reparam", "measure-valued", "lax"),
    "gaussian_toy": ("reparam", "reinforce[baseline=ema]"),
    "bernoulli_toy": ("disarm", "arm"),
    "linear_gaussian": ("stl",),
    "logistic_regression": ("reparam", "rloo", "joint-cv"),
    "sbn_tiny": ("arm", "relax"),
    "bayesian_mlp[hidden=[3],minibatch=4]": ("reparam", "local-reparam", "flipout"),
    "half_images[dataset=digits,hidden=[4],latent_size=3]": ("disarm", "muprop"),
    "half_images[dataset=digits,hidden=[4],latent_size=3,importance_samples=3]": ("vimco",),
    "eight_schools": ("stl",),
}
VARIANTS = (
    "reinforce[baseline=ema]",
    "reinforce[baseline=nvil]",
    "reinforce[baseline=optimal]",
    "rloo[num_samples=4]",
    "antithetic[base=reinforce]",
    "rqmc[base=reinforce]",
    "per_latent[y=disarm,z=stl]",
    "per_latent[y=gumbel-softmax,z=rloo]",
)


def fits(estimator, problem):
    try:
        check_pair(ESTIMATORS.resolve(estimator), PROBLEMS.resolve(problem))
    except EstbenchError:
        return False
    return True


FITTING = {
    each: [problem for problem in PROBLEMS_OF.values() if fits(each, problem)]
    for each in (*ESTIMATORS.names(), *VARIANTS)
}
# Every estimator on one problem, and then all the others.
FIRST = [(each, fitting[0]) for each, fitting in FITTING.items() if fitting]
PAIRS = [
    *FIRST,
    *((each, problem) for each, fitting in FITTING.items() for problem in fitting[1:]),
    *((each, problem) for problem, some in MORE_PROBLEMS.items() for each in some),
]


def test_every_estimator_is_here():
    assert {estimator for estimator, _ in PAIRS} >= {*ESTIMATORS.names()} - {"implicit"}


def taken(state, steps):
    """The surrogates of the first steps; none but the first may wait."""
    with seeded(8, state.device):
        first = take_steps(state, 1)
        if SimulatedDevice.current is not None:
            SimulatedDevice.current.waits.clear()
        return torch.stack([*first, *take_steps(state, steps - 1)])


@pytest.mark.slow_after(len(FIRST))
@pytest.mark.parametrize(("estimator", "problem"), PAIRS)
def test_no_step_waits_and_the_bits_are_those_of_the_cpu(simulated, make_cell, make_twins, estimator, problem):
    there, here = make_twins(make_cell(estimator, problem))
    surrogates = taken(there, 3)
    assert not simulated.waits
    assert torch.equal(surrogates.cpu(), taken(here, 3))
    assert fingerprint(there.problem) == fingerprint(here.problem)
    assert fingerprint(there.estimator) == fingerprint(here.estimator)


@pytest.mark.parametrize(
    "changes",
    [
        {"kl_weight": {"start": 0.0, "end": 1.0, "steps": 2}},
        {"clip_norm": 0.1, "optimizer": "adamw"},
        {"warmup_steps": 2, "schedule": "cosine"},
        {"optimizer": "sgd"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_nor_does_one_with_schedules_or_another_optimiser(simulated, make_cell, make_twins, changes):
    there, here = make_twins(make_cell(**{f"training__{name}": value for name, value in changes.items()}))
    taken(there, 3)
    assert not simulated.waits
    taken(here, 3)
    assert fingerprint(there.problem) == fingerprint(here.problem)


def test_nor_does_one_that_begins_an_epoch(simulated, make_cell, make_twins):
    there, here = make_twins(make_cell(training__batch_size=700))
    orders = []
    for state in (there, here):
        taken(state, 2)
        orders.append(state.batches.order)
        simulated.waits.clear()
        take_steps(state, 1)
        assert not simulated.waits
        assert not torch.equal(orders[-1], state.batches.order)
    assert torch.equal(*orders)  # the order of examples is that of the CPU
