"""Small runs, on the CPU and on the simulated device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from estbench import devices
from estbench.certify.simulated_device import CPU, DEVICE, SimulatedDevice, register
from estbench.estimators import per_latent
from estbench.experiment import Cell
from estbench.randomness import seeded
from estbench.training import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_collection_modifyitems(items):
    for item in items:
        if register() and item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.skip(reason=register()))


@pytest.fixture(autouse=True)
def _alone(one_thread) -> Iterator[None]:
    """Nothing of another device is remembered."""
    devices.has_float64.cache_clear()
    yield
    devices.has_float64.cache_clear()


@pytest.fixture
def simulated() -> Iterator[SimulatedDevice]:
    with SimulatedDevice() as device:
        yield device


@pytest.fixture
def make_twins(simulated, monkeypatch) -> Callable[[Cell], tuple[State, State]]:
    """Make a run on the device and one on the CPU; learned parts have the weights that the CPU gave them.

    Whether estimator and problem go together is not looked at again: it takes half of the time, and others test it.
    """
    monkeypatch.setattr(per_latent, "check_for", lambda *_: None)

    def make(cell: Cell) -> tuple[State, State]:
        states = []
        for device in (DEVICE, CPU):
            with seeded(7, device):
                states.append(State(cell, device))
        there, here = states
        there.estimator.load_state_dict(here.estimator.state_dict())
        # On a CPU one generator gives order and pixels; here it has a second one, as the device.
        here.batches.pixels = torch.Generator()
        here.batches.pixels.set_state(there.batches.pixels.get_state())
        return there, here

    return make
