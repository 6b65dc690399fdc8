"""A drawn figure: its files, the data behind it, the words that belong to it, and the points that can be read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from estbench.report.figures.style import OWNER, settings
from estbench.report.tables.base import as_csv

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from estbench.report.figures.style import Look

DPI = 160
UNDATED: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Series(NamedTuple):
    """Points of one estimator in reading order: where each is drawn, in points from the top left, and its words."""

    estimator: int
    points: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Picture:
    """A figure, with the words that belong to it; each kind of file is drawn when it is asked for."""

    name: str
    kind: str
    title: str
    alt: str
    caption: str
    reading: str
    figure: Figure
    data: pd.DataFrame | None = None
    series: tuple[Series, ...] = ()

    @cached_property
    def svg(self) -> bytes:
        """The figure as SVG."""
        return rendered(self.figure, "svg")

    def files(self, formats: Iterable[str] = ("svg", "png", "pdf", "csv")) -> dict[str, bytes]:
        """The figure as it is written, by ending, in those of the formats that figures have."""
        files = {
            kind: self.svg if kind == "svg" else rendered(self.figure, kind) for kind in UNDATED if kind in formats
        }
        if self.data is not None and "csv" in formats:
            files["csv"] = as_csv(self.data).encode()
        return files


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as ``svg``, ``png`` or ``pdf``; the same figure gives the same bytes: no date, no program's name."""
    _number_owners(figure)
    file = io.BytesIO()
    with settings():
        figure.savefig(file, format=kind, dpi=DPI if kind == "png" else None, metadata=UNDATED[kind])
    return file.getvalue()


def series(axes: Axes, look: Look, points: Iterable[tuple[float, float, str]]) -> list[Series]:
    """The points that lie inside the axes, where they are drawn; to be called when limits are final."""
    _ = axes.viewLim  # what was drawn moves the limits only when they are asked for
    figure = axes.get_figure(root=True)
    assert figure is not None
    height, scale = figure.get_size_inches()[1] * 72, 72 / figure.dpi
    places = []
    for x, y, words in points:
        at = axes.transData.transform((x, y))
        across, up = axes.transAxes.inverted().transform(at)
        if -0.01 <= across <= 1.01 and -0.01 <= up <= 1.01:
            places.append((round(float(at[0]) * scale, 1), round(height - float(at[1]) * scale, 1), words))
    return [Series(look.place, tuple(places))] if places else []


def _number_owners(figure: Figure) -> None:
    """Make the names unique, as ids must be."""
    owned_artists = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(OWNER))
    for count, artist in enumerate(owned_artists):
        artist.set_gid(f"{'-'.join(str(artist.get_gid()).split('-')[:2])}-{count}")
