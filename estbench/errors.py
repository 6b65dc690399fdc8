"""The one exception that users see: what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


LONGEST = 4000


def cut_inside(text: str, longest: int) -> str:
    """A text of at most so many signs, and a few: what it begins with and what it ends in, as a remedy, stay."""
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]} ... {len(text) - longest} characters ... {text[-longest // 2 :]}"


class EstbenchError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with code 2."""

    def __init__(self, message: str = "") -> None:
        super().__init__(cut_inside(message, LONGEST))


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
