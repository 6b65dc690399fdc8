"""Random state that is lent and given back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's default generators of the CPU and of one device for a while, and restore their states afterwards.

    ``torch.distributions`` takes no generator, so what must not disturb training runs in here. Generators of other
    devices are left alone.
    """
    import torch  # noqa: PLC0415  (the ground is imported without it)

    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
