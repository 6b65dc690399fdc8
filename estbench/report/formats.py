"""The kinds of files that a report is made of, and a choice of them."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from estbench.errors import EstbenchError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMATS = ("html", "csv", "md", "tex", "svg", "png", "pdf")
# PDF is for an article: it takes as long as all others together, and is written when it is asked for.
USUAL = frozenset(FORMATS) - {"pdf"}
# Of tables only; what figures show is in the others, CSV among them.
WRITTEN = frozenset({"md", "tex"})
LEAST_WIDTH, MOST_WIDTH = 3.0, 20.0  # inches of a figure


def as_width(inches: float) -> float:
    """The width of figures in inches; one that no figure can have is an error."""
    if not LEAST_WIDTH <= inches <= MOST_WIDTH:
        raise EstbenchError(f"figures are {LEAST_WIDTH:g} to {MOST_WIDTH:g} inches wide, not {inches:g}")
    return inches


def as_formats(names: Iterable[str] | None) -> frozenset[str]:
    """The formats that are meant, all but PDF if not given; an unknown one is an error that names the closest."""
    if names is None:
        return USUAL
    wanted = [name.strip().lower() for name in names if name.strip()]
    for name in wanted:
        if name not in FORMATS:
            raise EstbenchError(f"unknown format '{name}'; {did_you_mean(name, FORMATS)}")
    if not wanted:
        raise EstbenchError(f"no format is named; known: {', '.join(FORMATS)}")
    return frozenset(wanted)


def chosen(files: dict[str, bytes], names: Iterable[str] | None) -> dict[str, bytes]:
    """The files of the formats that are meant, by the ending of their names."""
    wanted = as_formats(names)
    return {name: content for name, content in files.items() if PurePath(name).suffix.removeprefix(".") in wanted}
