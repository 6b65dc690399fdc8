"""The one exception that users see: what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


# The standard library and estbench: neither is where a user's mistake is.
NOT_USERS = (Path(traceback.__file__).parent, Path(__file__).parent)


class EstbenchError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with code 2."""


def described(error: BaseException) -> str:
    """An exception of somebody's code in one line: its type, its message, and the file and line it came from."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  (its own __str__ may raise)
        message = "(its message cannot be shown)"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_users(Path(frame.filename))]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {message}{place}"


def _is_users(file: Path) -> bool:
    return "site-packages" not in file.parts and not any(folder in file.parents for folder in NOT_USERS)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Say which of ``choices`` is nearest to ``name``, and list them all."""
    known = sorted(choices)
    # Nobody mistypes a hundred characters, and to compare them takes long.
    nearest = difflib.get_close_matches(name[:100].lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
