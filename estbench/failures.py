"""Failures of code that may be a plugin's: any exception becomes plain text that can be recorded."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePath
from types import FrameType

from estbench.errors import EstbenchError, cut_inside

# Packages that are no plugin.
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
    """An exception as text that can be written to any file and terminal: its class, its message and its place."""

    type: str
    message: str
    traceback: str = ""
    place: str = ""  # file and line of the plugin, if any

    @property
    def reason(self) -> str:
        """The failure in one line."""
        text = f"{self.type}: {self.message}" if self.message else self.type
        return " ".join(f"{text} ({self.place})".split() if self.place else text.split())

    def as_dict(self) -> dict[str, str]:
        """Return the failure as plain data, for a record."""
        return asdict(self)


def failure_of(error: BaseException) -> Failure:
    """Describe an exception, even if its own methods raise."""
    return Failure(
        _text(lambda: type(error).__name__, MOST_MESSAGE),
        _text(lambda: str(error), MOST_MESSAGE),
        "" if isinstance(error, EstbenchError) else _text(lambda: _trace(error), MOST_TRACEBACK),
        "" if isinstance(error, EstbenchError) else _place(error),
    )


@contextlib.contextmanager
def mistakes_of(what: str) -> Iterator[None]:
    """Turn any exception of a plugin into an ``EstbenchError`` that begins with ``what``."""
    try:
        yield
    except (EstbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001
        raise EstbenchError(f"{what}: {failure_of(error).reason}") from None


def is_stop(error: BaseException, interrupted: Callable[[], bool]) -> bool:
    """Whether an exception comes from a signal to stop, and was not raised by a plugin."""
    return isinstance(error, KeyboardInterrupt) and interrupted()


def described(error: BaseException) -> str:
    """Return an exception in one line; for an ``EstbenchError``, its message only."""
    failure = failure_of(error)
    return " ".join(failure.message.split()) if isinstance(error, EstbenchError) else failure.reason


def is_foreign(module: object) -> bool:
    """Whether a module of this name is neither part of estbench nor of a library that it uses."""
    return str(module).partition(".")[0] not in KNOWN


def _text(make: Callable[[], str], limit: int) -> str:
    """Return the string of ``make``, cut in the middle and encodable, or a replacement if ``make`` raises."""
    try:
        text = str.encode(make(), "utf-8", "backslashreplace").decode()
    except BaseException:  # noqa: BLE001  (the class of an exception may be a plugin's, and may raise anything)
        return "(cannot be shown)"
    return cut_inside(text, limit)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _place(error: BaseException) -> str:
    """Return file and line of the innermost frame of a plugin; "" if there is none."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_plugin(frame)]
    if not frames:
        return ""
    frame, line = frames[-1]
    return _text(lambda: f"{PurePath(frame.f_code.co_filename).name}, line {line}", MOST_MESSAGE)


def _is_plugin(frame: FrameType) -> bool:
    return is_foreign(frame.f_globals.get("__name__", ""))
