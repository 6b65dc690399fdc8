"""The exceptions of estbench. A message says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


LONGEST = 4000


def cut_inside(text: str, longest: int) -> str:
    """Return a text cut in the middle to about ``longest`` characters; its end, often a remedy, is kept."""
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]} ... {len(text) - longest} characters ... {text[-longest // 2 :]}"


class EstbenchError(Exception):
    """A mistake that the user can correct; the command line prints it as one line and exits with code 2."""

    def __init__(self, message: str = "") -> None:
        super().__init__(cut_inside(message, LONGEST))


class EstbenchWarning(UserWarning):
    """A problem that did not stop the call."""


# The disk is full, read-only or broken, the file server is gone, too many open files, no locks, no memory.
FAULTS_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "EIO", "ESTALE"),
        *("EMFILE", "ENFILE", "ENOLCK", "ENOMEM", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}


class ReadError(OSError):
    """A fault of the machine, not of a file: the file may be readable later."""


# More choices are not listed beside one that is near.
FEW_CHOICES = 12


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return a hint for a message: the choice that is nearest to ``name``, and all choices if these are not many."""
    known = sorted(choices)
    # Longer names are no typing errors, and are slow to compare.
    nearest = difflib.get_close_matches(name[:100].lower(), known, n=1, cutoff=0.5)
    if nearest and len(known) > FEW_CHOICES:
        return f"did you mean '{nearest[0]}'?"
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
