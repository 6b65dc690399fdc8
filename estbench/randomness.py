"""Random state that is lent and given back: of the CPU, and of the accelerators that are at work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class RandomState(NamedTuple):
    """The states of torch's default generators: that of the CPU, and that of a device, None for the CPU itself."""

    host: Tensor
    device: Tensor | None


def random_state(device: torch.device) -> RandomState:
    """Return the states of the CPU's and of one device's default generator."""
    import torch  # noqa: PLC0415  (the ground is imported without it)

    return RandomState(torch.get_rng_state(), _get(device) if device.type != "cpu" else None)


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Put the generators back to where ``random_state`` was called."""
    import torch  # noqa: PLC0415

    torch.set_rng_state(state.host)
    if state.device is not None:
        _set(state.device, device)


@contextlib.contextmanager
def kept_random_state(*devices: torch.device) -> Iterator[None]:
    """Restore the default generators of the CPU and of these devices afterwards; no others are touched."""
    import torch  # noqa: PLC0415

    kept = [(random_state(device), device) for device in {torch.device("cpu"), *devices}]
    try:
        yield
    finally:
        for state, device in kept:
            set_random_state(state, device)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's default generators of the CPU and of one device for a while, and restore their states afterwards.

    ``torch.distributions`` takes no generator, so what must not disturb training runs in here. Generators of other
    devices are left alone.
    """
    import torch  # noqa: PLC0415

    with kept_random_state(device):
        torch.default_generator.manual_seed(seed)
        if device.type != "cpu":
            _set(torch.Generator(device).manual_seed(seed).get_state(), device)
        yield


def _get(device: torch.device) -> Tensor:
    import torch  # noqa: PLC0415

    # MPS has a single device, and its functions take none.
    state: Tensor = torch.get_device_module(device).get_rng_state(*[device] if device.type != "mps" else [])
    return state


def _set(state: Tensor, device: torch.device) -> None:
    import torch  # noqa: PLC0415

    torch.get_device_module(device).set_rng_state(state.cpu(), *[device] if device.type != "mps" else [])
