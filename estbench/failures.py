"""Failures of code that is anybody's: whatever it raises becomes plain text that can be written down."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePath
from types import FrameType

from estbench.errors import EstbenchError, cut_inside

# Code that no plugin is made of.
KNOWN = {
    "estbench",
    "torch",
    "numpy",
    "pydantic",
    "pydantic_core",
    "distributed",
    "dask",
    "dask_jobqueue",
    "tornado",
    "rich",
    "tqdm",
}
KNOWN |= sys.stdlib_module_names
MOST_MESSAGE = 2_000
MOST_TRACEBACK = 50_000


@dataclass(frozen=True)
class Failure:
    """What was raised: its kind, its message, and where; strings that every file and terminal takes."""

    type: str
    message: str
    traceback: str = ""
    place: str = ""  # file and line of the plugin, if any

    @property
    def reason(self) -> str:
        """In one line: for a mistake of the user its message, which says what to do."""
        said = f"{self.type}: {self.message}" if self.message else self.type
        return " ".join(f"{said} ({self.place})".split() if self.place else said.split())

    def as_dict(self) -> dict[str, str]:
        """As plain data, for a record."""
        return asdict(self)


def failure_of(error: BaseException) -> Failure:
    """Describe an exception, whatever its class does when it is asked."""
    return Failure(
        _text(lambda: type(error).__name__, MOST_MESSAGE),
        _text(lambda: str(error), MOST_MESSAGE),
        "" if isinstance(error, EstbenchError) else _text(lambda: _trace(error), MOST_TRACEBACK),
        "" if isinstance(error, EstbenchError) else _place(error),
    )


@contextlib.contextmanager
def mistakes_of(what: str) -> Iterator[None]:
    """Make a mistake of the user of whatever a plugin raises where no cell can fail for it yet."""
    try:
        yield
    except (EstbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001
        raise EstbenchError(f"{what}: {failure_of(error).reason}") from None


def is_stop(error: BaseException, interrupted: Callable[[], bool]) -> bool:
    """Whether an exception comes from a signal to stop, and not from a plugin that raised it by itself."""
    return isinstance(error, KeyboardInterrupt) and interrupted()


def described(error: BaseException) -> str:
    """An exception of somebody's code in one line; of a mistake of the user, its message."""
    failure = failure_of(error)
    return " ".join(failure.message.split()) if isinstance(error, EstbenchError) else failure.reason


def is_foreign(module: object) -> bool:
    """Whether a module of this name is neither estbench nor a library that it stands on."""
    return str(module).partition(".")[0] not in KNOWN


def _text(make: Callable[[], str], limit: int) -> str:
    """A string, or why there is none; cut in the middle, and without what cannot be encoded."""
    try:
        text = str.encode(make(), "utf-8", "backslashreplace").decode()
    except BaseException:  # noqa: BLE001  (an exception is anybody's class, and may raise anything, too)
        return "(cannot be shown)"
    return cut_inside(text, limit)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _place(error: BaseException) -> str:
    """File and line of the innermost frame that is a plugin's."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_plugin(frame)]
    if not frames:
        return ""
    frame, line = frames[-1]
    return _text(lambda: f"{PurePath(frame.f_code.co_filename).name}, line {line}", MOST_MESSAGE)


def _is_plugin(frame: FrameType) -> bool:
    return is_foreign(frame.f_globals.get("__name__", ""))
