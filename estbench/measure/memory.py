"""Peak memory: what the device had allocated, or the resident set of this process."""

from __future__ import annotations

import re
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


class PeakMemory:
    """High-water mark since ``reset``.

    On CUDA it is the memory that torch allocated. On a CPU it is the peak resident set of the whole process, which
    Linux can reset; where it cannot be reset there is no honest number for one estimator, and none is given.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known = False

    def reset(self) -> None:
        """Start anew."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.known = True
            return
        try:
            (PROCESS / "clear_refs").write_text("5", encoding="ascii")
            self.known = True
        except OSError:
            self.known = False

    def bytes(self) -> int | None:
        """The mark, in bytes; nothing where it cannot be known."""
        if not self.known:
            return None
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        mark = re.search(r"VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text(encoding="ascii"))
        return int(mark[1]) * 1024 if mark else None
