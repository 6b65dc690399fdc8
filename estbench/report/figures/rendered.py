"""A finished figure: its files, the data behind it, its words, and the points that the page reads out."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from estbench.report.figures.style import ESTIMATOR_PREFIX, matplotlib_style
from estbench.report.sections import NOWHERE, Place
from estbench.report.tables.base import as_csv

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    import pandas as pd
    from matplotlib.figure import Figure

DPI = 160
# Tables of a font that place letters. In a PDF they have their places already, and to read them is most of its time.
LAYOUT_TABLES = ("GSUB", "GPOS", "GDEF", "kern")
UNDATED: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


# What a description is called in a format's metadata.
DESCRIBED = {"svg": "Description", "png": "Description", "pdf": "Subject"}


def printable(text: str) -> str:
    """Return text without the characters that metadata of files cannot hold."""
    return "".join(sign if sign.isprintable() else " " for sign in text).encode("utf-8", "replace").decode("utf-8")


class Series(NamedTuple):
    """Points of one estimator in reading order: x and y in points (1/72 inch) from the top left, and the words."""

    estimator: int  # its place in the plan
    points: tuple[tuple[float, float, str], ...]
    panel: int = 0  # the place of its panel in ``RenderedFigure.boxes``


class Box(NamedTuple):
    """The area of a panel in points from the top left; of curves, the page reads all at one x at the same time."""

    left: float
    top: float
    right: float
    bottom: float
    curves: bool


@dataclass(frozen=True, kw_only=True)
class RenderedFigure:
    """A figure with the words that belong to it. Each kind of file is made when it is asked for.

    ``Canvas.finish`` makes one; ``all_figures`` adds where it stands in the page.
    """

    name: str  # of its files
    title: str
    alt: str  # the alternative text, for readers who do not see the figure
    caption: str
    reading: str  # how to read it
    figure: Figure | None  # None once its files are made
    data: pd.DataFrame
    series: tuple[Series, ...] = ()
    boxes: tuple[Box, ...] = ()
    place: Place = NOWHERE
    group: str = ""  # the title of several views of the same thing, of which the page shows one at a time
    tab: str = ""  # the word for this view
    made: Mapping[str, bytes] = field(default_factory=dict)  # files by their kind

    def in_tab(self, tab: str, group: str) -> RenderedFigure:
        """Return the figure as one of the views of a group."""
        return dataclasses.replace(self, tab=tab, group=group)

    @property
    def shown(self) -> list[int]:
        """The places in the plan of the estimators that can be read."""
        return sorted({each.estimator for each in self.series})

    @cached_property
    def svg(self) -> bytes:
        """The figure as SVG."""
        return self._encode("svg")

    def _encode(self, kind: str) -> bytes:
        if self.figure is None:
            return self.made[kind]
        return encode_figure(self.figure, kind, self.title, self.alt)

    def as_files(self, kinds: Collection[str]) -> RenderedFigure:
        """Return the figure as files of some kinds: no others can be made of it, and it goes to another process."""
        return dataclasses.replace(
            self, figure=None, made={kind: self._encode(kind) for kind in UNDATED if kind in kinds}
        )

    def files(self, formats: Iterable[str] = ("svg", "png", "csv")) -> dict[str, bytes]:
        """Return the content of the figure's files by their ending, for those of ``formats`` that figures have."""
        wanted = set(formats)
        files = {kind: self.svg if kind == "svg" else self._encode(kind) for kind in UNDATED if kind in wanted}
        if "csv" in wanted:
            files["csv"] = as_csv(self.data).encode()
        return files


def name_with_problem(name: str, problem: str, at: int) -> str:
    """Return a figure's name with its problem, of whose label only letters and digits stay; ``at`` keeps it unique."""
    slug = re.sub(r"[^a-z0-9]+", "-", problem.lower()).strip("-")[:40]
    return f"{name}-{at + 1}-{slug}".rstrip("-")


def encode_figure(figure: Figure, kind: str, title: str = "", alt: str = "") -> bytes:
    """Return a figure as ``svg``, ``png`` or ``pdf``, the same bytes every time: no date, no name of a program.

    The file holds its title and, as far as its format knows one, a description, for search and for screen readers.
    """
    if kind == "svg":
        _number_marked_artists(figure)
    file = io.BytesIO()
    words = {"Title": printable(title), **({DESCRIBED[kind]: printable(alt)} if kind in DESCRIBED else {})}
    metadata = UNDATED[kind] | {key: text for key, text in words.items() if text}
    with matplotlib_style(), _without_layout_tables() if kind == "pdf" else contextlib.nullcontext():
        figure.savefig(file, format=kind, dpi=DPI if kind == "png" else None, metadata=metadata)
    return file.getvalue()


@contextlib.contextmanager
def _without_layout_tables() -> Iterator[None]:
    """Let fonts be embedded without their tables of layout; there is no public way to ask for it."""
    from fontTools.subset import Options  # noqa: PLC0415  (matplotlib loads it for a PDF only)

    usual = getattr(Options, "_drop_tables_default", [])
    Options._drop_tables_default = [*usual, *LAYOUT_TABLES]  # noqa: SLF001  (elsewhere it is only slower)
    try:
        yield
    finally:
        Options._drop_tables_default = usual  # noqa: SLF001


def _number_marked_artists(figure: Figure) -> None:
    """Number the artists that belong to estimators, because an id must be unique."""
    marked = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(ESTIMATOR_PREFIX))
    for count, artist in enumerate(marked):
        artist.set_gid(f"{'-'.join(str(artist.get_gid()).split('-')[:2])}-{count}")
