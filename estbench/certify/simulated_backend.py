"""The random stream, the memory and the clock of the simulated accelerator, as torch asks a backend for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NAME = "simgpu"


class _Backend:
    """The functions that torch looks for in ``torch.simgpu``."""

    def __init__(self) -> None:
        self.state = torch.Generator().manual_seed(0).get_state()
        self.synchronisations = 0
        self.memory = 0
        self.peak = 0

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_device_name(self, device: Any = None) -> str:
        return "simulated device"

    def synchronize(self, device: Any = None) -> None:
        self.synchronisations += 1

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return self.state.clone()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        self.state = state.clone()

    def manual_seed(self, seed: int) -> None:
        self.state = torch.Generator().manual_seed(seed).get_state()

    manual_seed_all = manual_seed

    def memory_allocated(self, device: Any = None) -> int:
        return self.memory

    def max_memory_allocated(self, device: Any = None) -> int:
        return self.peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        self.peak = self.memory

    def empty_cache(self) -> None:
        pass


BACKEND = _Backend()
