"""How a cell ended."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The closed set of outcomes of a cell."""

    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        """Whether a second run leaves the cell alone: it was finished, or its divergence is its result."""
        return self in {Status.DONE, Status.DIVERGED}
