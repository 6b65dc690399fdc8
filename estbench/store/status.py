"""The outcomes of a cell."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The outcome of a cell; there are no others."""

    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        """Whether a second run does not compute the cell again: it is done, or its result is that it diverged."""
        return self in {Status.DONE, Status.DIVERGED}
