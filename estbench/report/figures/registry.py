"""The registry of figures: a figure registers itself with a section of the page, and nothing else lists it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from estbench.report.sections import Place, Registered, SectionRegistry

if TYPE_CHECKING:
    from estbench.report.analysis import Analysis
    from estbench.report.figures.rendered import RenderedFigure
    from estbench.report.figures.style import LineStyle


class FigureSource(NamedTuple):
    """The analysis that a figure is drawn from, and the style of each estimator."""

    analysis: Analysis
    styles: dict[str, LineStyle]  # by label, in the order of the plan
    problem: str = ""  # the label of the one problem that is drawn; empty for a figure over all problems


DrawFigures = Callable[[FigureSource], Iterator["RenderedFigure"]]


@dataclass(frozen=True)
class RegisteredFigure(Registered):
    """A function that draws figures, once for each problem or once over all."""

    each_problem: bool


FIGURES: SectionRegistry[RegisteredFigure] = SectionRegistry("figure")


def register_figure(
    *, section: str, order: int = 10, folded: str = "", each_problem: bool = True
) -> Callable[[DrawFigures], DrawFigures]:
    """Return a decorator that adds the figures of a function to every report; it yields none where it has no data.

    Parameters
    ----------
    section
        The key of the section of the page that the figures stand in: see ``estbench.report.sections``.
    order
        The place in its section, from small to large: figures are at 10 and tables at 20, unless they say otherwise.
    folded
        A line that the figures are folded behind; without one, they are open.
    each_problem
        Whether the function is called once for each problem; False for a figure over all problems.

    Raises
    ------
    EstbenchError
        If the page has no such section, or another module has registered a figure of this name.

    Examples
    --------
    >>> from estbench.report.analysis.frames import done
    >>> from estbench.report import Canvas, Margins, register_figure
    >>> @register_figure(section="throughput")
    ... def draw_finished(source):
    ...     cells = done(source.analysis.cells)
    ...     if len(cells):
    ...         canvas = Canvas.single(3.4, Margins(left=0.12, right=0.03, top=0.2, bottom=0.55))
    ...         canvas.panels[0, 0].hist(cells["step"])
    ...         words = {"title": "Steps", "alt": "A histogram of steps.", "caption": "All cells.", "reading": ""}
    ...         yield canvas.finish(name="finished", data=cells[["step"]], **words)
    >>> FIGURES.pop("draw_finished").place.section
    'throughput'
    """

    def register(draw: DrawFigures) -> DrawFigures:
        FIGURES.add(RegisteredFigure(draw, Place(section, order, folded), each_problem))
        return draw

    return register
