"""Operations that read a number inside: the profiler sees them on a CPU, and the simulated device knows them."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.profiler import profile
from torch.distributions import Normal
from torch.utils._python_dispatch import TorchDispatchMode

from estbench.certify.simulated_device import CPU, OUTPUT_DEPENDS_ON_NUMBERS, READS_INSIDE
from estbench.randomness import seeded
from estbench.training import State, take_steps

# These read on a CPU only: accelerators leave the check to the kernel, or keep the number of the step where it is.
ON_CPU_ONLY = {"aten::one_hot", "aten::_fused_adam_", "aten::_fused_adamw_", "aten::_fused_sgd_"}
ESTIMATORS = {
    "vae[dataset=digits,hidden=[8],latent_size=2]": ("reinforce[baseline=nvil]", "stl", "rqmc", "es"),
    "vae[dataset=digits,hidden=[8],latent_size=2,posterior=full]": ("rloo",),
    "vae[dataset=digits,latent_size=2,latents=gamma,hidden=[8]]": ("implicit",),
    "vae[dataset=digits,latent_size=2,latents=student-t,hidden=[8]]": ("implicit",),
    "vae[dataset=digits,latent_size=2,latents=poisson,hidden=[8]]": ("measure-valued", "arrival-times"),
    "vae[dataset=digits,latent_size=2,latents=weibull,hidden=[8]]": ("measure-valued", "lax"),
    "logistic_regression": ("joint-cv",),
    "vae[dataset=digits,hidden=[8],latent_size=3,latents=bernoulli]": ("relax", "arms", "unordered-set", "enumeration"),
    "vae[dataset=digits,hidden=[8],latent_size=2,latents=categorical,categories=3]": (
        "gumbel-rao",
        "arsm",
        "zgr",
        "mve",
    ),
    "vae[dataset=digits,hidden=[8],latent_size=2,importance_samples=3]": ("vimco", "rws", "dreg"),
    "hierarchical_vae[dataset=digits,hidden=[8],latent_size=2,latents=normal,prior=learned,importance_samples=3]": (
        "dreg[prior=reparameterized]",
        "vimco[baseline=signal]",
    ),
    "mixed_vae[dataset=digits,hidden=[8]]": ("rloo",),
}


class Reads(TorchDispatchMode):
    """Notes which operations read a number inside."""

    def __init__(self):
        super().__init__()
        self.seen, self.reading = set(), set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        flags = tuple(value for value in args if isinstance(value, bool))
        known = (operation, flags) in self.seen or any(tag in operation.tags for tag in OUTPUT_DEPENDS_ON_NUMBERS)
        if known:
            return operation(*args, **(kwargs or {}))
        self.seen.add((operation, flags))
        with profile(use_kineto=False) as found:
            out = operation(*args, **(kwargs or {}))
        # A check by _assert_async is one of the device, which a CPU does at once.
        inside = [event for event in found.function_events if event.name == "aten::item" and event.cpu_parent]
        if any(event.cpu_parent.name != "aten::_assert_async" for event in inside):
            self.reading.add(operation.name().partition(".")[0])
        return out


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "estimator"), [(each, one) for each, some in ESTIMATORS.items() for one in some])
def test_no_operation_of_a_step_reads_inside(make_cell, problem, estimator):
    with seeded(0, CPU):
        state = State(make_cell(estimator, problem), CPU)
        take_steps(state, 1)
        with Reads() as reads:
            take_steps(state, 1)
    assert reads.reading <= ON_CPU_ONLY


def test_the_samples_of_torchs_normal_are_found():
    with Reads() as reads:
        Normal(torch.zeros(2), torch.ones(2)).sample()
    assert reads.reading == READS_INSIDE


def test_they_are_counted(simulated):
    q = Normal(torch.zeros(2, device=simulated.device), torch.ones(2, device=simulated.device), validate_args=False)
    simulated.waits.clear()
    q.rsample()
    assert not simulated.waits
    q.sample()
    assert simulated.waits == {"normal with a tensor of scales": 1}
