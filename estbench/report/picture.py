"""A drawn figure: its files, the data behind it, the words that belong to it, and the points that can be read."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from estbench.report.table import as_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from estbench.report.style import Look

# What an artist of one estimator is called in the SVG, so that the page can hide it; never its label.
OWNER = "estimator-"


class Series(NamedTuple):
    """Points of one estimator in reading order: where each is drawn, in points from the top left, and its words."""

    estimator: int
    points: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Picture:
    """A figure as files, with the words that belong to it."""

    name: str
    kind: str
    title: str
    alt: str
    caption: str
    reading: str
    svg: bytes
    png: bytes
    pdf: bytes = b""
    data: pd.DataFrame | None = None
    series: tuple[Series, ...] = ()

    def files(self) -> dict[str, bytes]:
        """The figure as it is written, by ending."""
        csv = b"" if self.data is None else as_csv(self.data).encode()
        return {
            ending: content
            for ending, content in {"svg": self.svg, "png": self.png, "pdf": self.pdf, "csv": csv}.items()
            if content
        }


def render(figure: Figure) -> tuple[bytes, bytes]:
    """A figure as SVG and PNG; the same figure gives the same bytes."""
    _number_owners(figure)
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


def render_pdf(figure: Figure) -> bytes:
    """A figure as PDF, without the date and the program that would make every file another."""
    pdf = io.BytesIO()
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return pdf.getvalue()


@contextlib.contextmanager
def owned(axes: Axes, look: Look) -> Iterator[None]:
    """What is drawn inside belongs to one estimator, and is hidden with it."""
    earlier = set(axes.get_children())
    yield
    own((artist for artist in axes.get_children() if artist not in earlier), look)


def own(artists: Iterable[Artist], look: Look) -> None:
    """These artists belong to one estimator."""
    for artist in artists:
        artist.set_gid(f"{OWNER}{look.place}")


def series(axes: Axes, look: Look, points: Iterable[tuple[float, float, str]]) -> list[Series]:
    """The points that lie inside the axes, where they are drawn; to be called when limits are final."""
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
