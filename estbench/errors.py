"""The one exception that users see: what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


# A message is cut in its middle, where it repeats what somebody wrote, and still ends in what to do.
LONGEST_MESSAGE = 4000


class EstbenchError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with code 2."""

    def __init__(self, message: str = "") -> None:
        half = LONGEST_MESSAGE // 2
        super().__init__(message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} ... {message[-half:]}")


class EstbenchWarning(UserWarning):
    """Something that went wrong and did not stop the call; the message says what."""


# A disk that is full, forbidden or broken, a server of files that has gone, too many files, no locks, no memory.
FAULTS_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "EIO", "ESTALE"),
        *("EMFILE", "ENFILE", "ENOLCK", "ENOMEM", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}


class ReadError(OSError):
    """A fault of the machine, and no damage of a file: the file may be whole when it is read again."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Say which of ``choices`` is nearest to ``name``, and list them all."""
    known = sorted(choices)
    # Nobody mistypes a hundred characters, and to compare them takes long.
    nearest = difflib.get_close_matches(name[:100].lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
