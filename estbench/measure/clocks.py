"""Separate clocks for training, evaluation, probing and writing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

import torch

NAMES = ("training", "evaluation", "probe", "writing")


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clocks:
    """Seconds spent in each part of a cell; run one clock at a time, for nested ones book the same time twice."""

    def __init__(self, device: torch.device, seconds: Mapping[str, float] | None = None) -> None:
        self.device = device
        self.seconds = dict.fromkeys(NAMES, 0.0) | dict(seconds or {})

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Run one clock; the device is synchronised at both ends, so that work is booked where it was asked for."""
        synchronize(self.device)
        start = time.perf_counter()
        try:
            yield
        finally:
            synchronize(self.device)
            self.seconds[name] += time.perf_counter() - start
