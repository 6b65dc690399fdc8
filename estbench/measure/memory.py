"""The memory that something takes: the peak above what was in use before."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


class PeakMemory:
    """The peak of the memory in use since ``reset``, above what was in use then.

    On an accelerator it is the memory that torch allocated there, if torch counts it. On a CPU it is the resident set
    of the whole process, of which Linux knows the peak. If it cannot be known, ``bytes`` gives None.

    Examples
    --------
    >>> import torch
    >>> from estbench.measure.memory import PeakMemory
    >>> memory = PeakMemory(torch.device("cpu"))
    >>> memory.bytes() is None  # never reset
    True
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before: int | None = None

    def reset(self) -> None:
        """Start again from the memory in use now."""
        if self.device.type == "cpu":
            self.before = _reset_resident_peak()
            return
        module = torch.get_device_module(self.device)
        self.before = None
        if hasattr(module, "reset_peak_memory_stats"):
            module.reset_peak_memory_stats(self.device)
            self.before = int(module.memory_allocated(self.device))

    def bytes(self) -> int | None:
        """Return the peak since ``reset``, above the level there; None if it cannot be known."""
        if self.before is None:
            return None
        on_cpu = self.device.type == "cpu"
        peak = _resident("VmHWM") if on_cpu else torch.get_device_module(self.device).max_memory_allocated(self.device)
        return None if peak is None else max(0, int(peak) - self.before)


def _reset_resident_peak() -> int | None:
    """Forget the peak of the resident set, and return its size; None if the system has no such thing."""
    # What the allocator keeps of freed memory would hide what is taken again.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")
        return _resident("VmRSS")
    except OSError:
        return None


def _resident(name: str) -> int | None:
    """Return a line of the process's status in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", (PROCESS / "status").read_text(encoding="ascii"))
    return int(found[1]) * 1024 if found else None
