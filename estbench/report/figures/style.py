"""How figures look: one colour, dash and marker per estimator everywhere, text that fits, the same bytes twice."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's colours without their yellow, which is lost on white, and four dark ones of Tol's.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#332288",
    "#999933",
)
# Lengths without a common factor with that of the colours: 90 estimators get different looks.
DASHES: tuple[tuple[float, ...] | str, ...] = (
    "",
    (5, 2),
    (1.5, 1.5),
    (7, 2, 1.5, 2),
    (3, 1.2),
    (9, 3),
    (5, 1.5, 1.5, 1.5, 1.5, 1.5),
    (2, 3),
    (1, 3),
)
# What an artist of one estimator is called in the SVG, so that the page can hide it; never its label.
OWNER = "estimator-"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
WIDTH = 7.4  # inches
FONT = 9.0  # points
INK = "#222222"
SOFT = "#8a8a8a"
RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same shapes on every machine
    "font.size": FONT,
    "text.color": INK,
    "axes.titlesize": FONT + 0.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": FONT,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": FONT - 0.5,
    "ytick.labelsize": FONT - 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "estbench",
    "figure.facecolor": "white",
}


class Look(NamedTuple):
    """How one estimator is drawn."""

    colour: str
    dash: tuple[float, ...] | str
    marker: str
    place: int  # in the plan

    @property
    def linestyle(self) -> Any:
        """The dash as matplotlib takes it."""
        return "-" if isinstance(self.dash, str) else (0, self.dash)


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


class Label(NamedTuple):
    """A direct label: where it would like to stand (in axes fractions) and what it says."""

    height: float
    text: str
    look: Look


def looks(estimators: Iterable[str]) -> dict[str, Look]:
    """One look per estimator, by its place in the plan."""
    return {
        label: Look(COLOURS[at % len(COLOURS)], DASHES[at % len(DASHES)], MARKERS[at % len(MARKERS)], at)
        for at, label in enumerate(estimators)
    }


def plain(text: str, longest: int = 60) -> str:
    """Text that matplotlib draws as it is: no formulas, no line breaks, no letters that its font lacks."""
    known = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    shown = "".join(sign if ord(sign) in known and sign.isprintable() else "?" for sign in " ".join(str(text).split()))
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    return shown.replace("$", r"\$")


def folded(label: str, width: int = 22) -> str:
    """A label over two lines, broken before its options, if it is long."""
    text = plain(label)
    at = text.find("[")
    return f"{text[:at]}\n  {text[at:]}" if len(text) > width and at > 0 else text


def text_width(texts: Iterable[str]) -> float:
    """Inches that the widest line takes, roughly."""
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    return longest * FONT * 0.57 / 72


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Heights near the wanted ones (ascending) at which things of the given sizes do not overlap, within 0 to 1."""
    placed: list[float] = []
    for at, height in enumerate(wanted):
        floor = placed[-1] + (sizes[at - 1] + sizes[at]) / 2 if placed else 0.0
        placed.append(max(height, floor))
    ceiling = 1.0
    for at in reversed(range(len(placed))):
        placed[at] = min(placed[at], ceiling)
        if at:
            ceiling = placed[at] - (sizes[at - 1] + sizes[at]) / 2
    return placed


def direct_labels(axes: Axes, labels: Sequence[Label], height: float) -> None:
    """Write labels to the right of the axes (``height`` inches tall), each with a sample of its line."""
    ordered = sorted(labels, key=lambda label: label.height)
    sizes = [(label.text.count("\n") + 1.15) * FONT * 1.3 / 72 / height for label in ordered]
    places = spread([min(max(label.height, 0.0), 1.0) for label in ordered], sizes)
    for label, at in zip(ordered, places, strict=True):
        from_height = min(max(label.height, 0.0), 1.0)
        drawn: list[Artist] = []
        if label.height == from_height:
            drawn.append(
                _line(axes, [1.005, 1.03], [from_height, at], color=label.look.colour, linewidth=0.7, alpha=0.7)
            )
        drawn.append(_line(axes, [1.035, 1.105], [at, at], color=label.look.colour, linestyle=label.look.linestyle))
        drawn.append(_line(axes, [1.07], [at], color=label.look.colour, marker=label.look.marker))
        text = axes.text(
            1.12,
            at,
            label.text,
            transform=axes.transAxes,
            va="center",
            ha="left",
            color=INK,
            fontsize=FONT - 0.5,
        )
        own([*drawn, text], label.look)


def legend_handles(chosen: dict[str, Look]) -> list[Line2D]:
    """Samples of lines for a legend."""
    return [
        Line2D([], [], color=look.colour, linestyle=look.linestyle, marker=look.marker, label=f" {plain(label)}")
        for label, look in chosen.items()
    ]


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Draw under our settings, whatever the user's are, and leave theirs as they were."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)  # type: ignore[arg-type]  # (its keys are typed as literals)
        yield


def _line(axes: Axes, x: list[float], y: list[float], **options: object) -> Line2D:
    return axes.add_line(Line2D(x, y, transform=axes.transAxes, clip_on=False, **options))  # type: ignore[arg-type]
