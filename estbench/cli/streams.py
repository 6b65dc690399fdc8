"""Standard output and error that accept every text: in any encoding, closed, or after the reader has left."""

from __future__ import annotations

import codecs
import io
import os
import sys

from estbench.visible import escaped

# ASCII for the signs that estbench prints, for terminals and files whose encoding lacks them.
PLAIN = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{GREEK CAPITAL LETTER DELTA}": "Delta",
    "\N{SUPERSCRIPT TWO}": "^2",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-",
}
DESCRIPTORS = {"stdout": 1, "stderr": 2}


class Output(io.TextIOWrapper):
    """A stream whose reader may leave (``estbench run | head``): the work goes on, and the rest is not printed."""

    def write(self, text: str) -> int:
        """Write, or drop what nobody reads."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what nobody reads."""
        try:
            super().flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def prepare() -> None:
    """Put such streams in place of Python's own; a program calls it once, before it prints."""
    codecs.register_error("plain", _plain)
    for name, descriptor in DESCRIPTORS.items():
        stream = getattr(sys, name)
        if stream is not None:
            buffer, encoding = stream.buffer, stream.encoding
        else:  # closed by whoever started us; a file that is opened next must not get its number
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            buffer, encoding = open(descriptor, "wb", closefd=False), "utf-8"  # noqa: SIM115  (for the whole process)
        watched = buffer.isatty() or name == "stderr"
        setattr(sys, name, Output(buffer, encoding=encoding, errors="plain", line_buffering=watched))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks by ASCII, or by its escape."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(sign) or escaped(sign) for sign in error.object[error.start : error.end]), error.end
