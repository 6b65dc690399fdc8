"""The style of all figures: one colour, dash and marker per estimator, text that fits, the same bytes every time."""

from __future__ import annotations

import contextlib
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import LogFormatterSciNotation

from estbench.report.analysis.wording import TIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# The colours of Okabe and Ito without their yellow, four of Tol, and six that are far from all of these. The light ones
# are darkened until each has a contrast of 3 to 1 on white.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#000000",
    "#C28500",
    "#3A9AD9",
    "#882255",
    "#332288",
    "#999933",
    "#B400FF",
    "#004B00",
    "#960000",
    "#005A5A",
    "#5A3C00",
    "#786969",
)
# Nine dashes and sixteen colours have no common factor: 144 estimators get different styles.
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
# Begins the id of what belongs to one estimator in the SVG, so that the page can hide it. The label is never in an id.
ESTIMATOR_PREFIX = "estimator-"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
WIDTH = 7.4  # inches, of the page's figures
NARROW = 5.0  # inches: below it, letters are a point smaller and names stand above what they name, not beside it
FONT = 9.0  # points
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
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
    "pdf.fonttype": 42,  # TrueType: several journals refuse matplotlib's default, Type 3
    "svg.hashsalt": "estbench",
    "figure.facecolor": "white",
}


class LineStyle(NamedTuple):
    """The colour, dashes and marker of one estimator, in every figure."""

    colour: str
    dash: tuple[float, ...] | str
    marker: str
    place: int  # in the plan

    @property
    def linestyle(self) -> Any:
        """The dash in matplotlib's form."""
        return "-" if isinstance(self.dash, str) else (0, self.dash)


_width: ContextVar[float] = ContextVar("width", default=WIDTH)


def figure_width() -> float:
    """Return the width in inches that figures are drawn at: see ``matplotlib_style``."""
    return _width.get()


def is_narrow() -> bool:
    """Whether figures are drawn for a column of text."""
    return figure_width() < NARROW


def line_styles(estimators: Iterable[str]) -> dict[str, LineStyle]:
    """Return one style per estimator, by its place in the plan."""
    return {
        label: LineStyle(COLOURS[at % len(COLOURS)], DASHES[at % len(DASHES)], MARKERS[at % len(MARKERS)], at)
        for at, label in enumerate(estimators)
    }


@contextlib.contextmanager
def belongs_to(axes: Axes, style: LineStyle) -> Iterator[None]:
    """Mark all that is drawn inside as one estimator's; the page hides it with the estimator."""
    earlier = set(axes.get_children())
    yield
    mark((artist for artist in axes.get_children() if artist not in earlier), style)


def mark(artists: Iterable[Artist], style: LineStyle) -> None:
    """Mark artists as those of one estimator."""
    for artist in artists:
        artist.set_gid(f"{ESTIMATOR_PREFIX}{style.place}")


def matplotlib_text(text: str, longest: int = 60) -> str:
    """Return text that matplotlib draws as it is: no formulas, no line breaks, no letters that its font lacks."""
    known = get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap()
    shown = "".join(sign if ord(sign) in known and sign.isprintable() else "?" for sign in " ".join(str(text).split()))
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    return shown.replace("$", r"\$")


class PlainPowers(LogFormatterSciNotation):
    """The labels of a log scale, 10² for example, as text: matplotlib's formulas take most of a figure's time."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of one tick."""
        formula: str = super().__call__(x, pos)
        text = formula.removeprefix(r"$\mathdefault{").removesuffix("}$").replace(r"\times", TIMES)
        return re.sub(r"\^\{(.*?)\}", lambda power: power[1].translate(RAISED), text)


def write_plain_powers(axes: Axes) -> None:
    """Label log scales by text where matplotlib would by formulas."""
    for axis in (axes.xaxis, axes.yaxis):
        for ticks in (axis.major, axis.minor):
            if type(ticks.formatter) is LogFormatterSciNotation:
                ticks.formatter.__class__ = PlainPowers


def wrap_label(label: str, width: int = 22) -> str:
    """Return a label in matplotlib's text; a long one is broken into two lines before its options."""
    text, width = matplotlib_text(label), min(width, 16) if is_narrow() else width
    at = text.find("[")
    return f"{text[:at]}\n  {text[at:]}" if len(text) > width and at > 0 else text


def text_width(texts: Iterable[str]) -> float:
    """Return roughly how many inches the widest line takes."""
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    return longest * FONT * 0.57 / 72


@contextlib.contextmanager
def matplotlib_style(width: float | None = None) -> Iterator[None]:
    """Draw with the settings of this module, whatever the user's are; the user's settings stay as they were.

    Figures that are made inside are ``width`` inches wide; without it, as wide as outside.
    """
    token = _width.set(figure_width() if width is None else width)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(RC)  # type: ignore[arg-type]  # (its keys are typed as literals)
            if is_narrow():
                smaller = {key: value - 1 for key, value in RC.items() if key.endswith("size") and value > FONT - 1}
                mpl.rcParams.update(smaller)  # type: ignore[arg-type]
            yield
    finally:
        _width.reset(token)
