"""The registry of figures: each says in which section of the page it stands.

A new figure is one new file in this folder, or one in a plugin, with a function that is registered::

    @register_figure(section="throughput")
    def draw_step_times(source: FigureSource) -> Iterator[RenderedFigure]:
        rows = frames.timings(source.results)
        if rows.empty:
            return  # the records have no data for it
        canvas = Canvas.single(3.4, Margins(left=0.12, right=0.03, top=0.2, bottom=0.55))
        ...
        yield canvas.finish(name="step_times", ...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from estbench.errors import EstbenchError, did_you_mean
from estbench.report.page.sections import SECTIONS

if TYPE_CHECKING:
    from estbench.report.figures.rendered import RenderedFigure
    from estbench.report.figures.style import LineStyle
    from estbench.store import Results


class FigureSource(NamedTuple):
    """The records that a figure is drawn from, and the style of each estimator."""

    results: Results  # of each estimator, the cells at the settings that were picked for it
    styles: dict[str, LineStyle]  # by label, in the order of the plan
    problem: str = ""  # the label of the one problem that is drawn; empty for a figure over all problems
    whole: Results | None = None  # the results with all the settings of a sweep


Draw = Callable[[FigureSource], Iterator["RenderedFigure"]]


@dataclass(frozen=True)
class RegisteredFigure:
    """A function that draws figures, and where they stand."""

    draw: Draw
    section: str
    below_tables: bool
    each_problem: bool

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.draw.__name__


_REGISTERED: dict[str, RegisteredFigure] = {}


def register_figure(*, section: str, below_tables: bool = False, each_problem: bool = True) -> Callable[[Draw], Draw]:
    """Return a decorator that registers a function as a figure of the report.

    Parameters
    ----------
    section
        The key of a section of the page, one of ``estbench.report.page.sections``.
    below_tables
        Whether it stands below the tables of its section, not above them.
    each_problem
        Whether it is drawn once for each problem; False for a figure over all problems.

    Raises
    ------
    EstbenchError
        If the section is unknown, or if another function of this name is registered.
    """
    keys = [key for key, _ in SECTIONS]
    if section not in keys:
        raise EstbenchError(f"unknown section '{section}' of the report; {did_you_mean(section, keys)}")

    def register(draw: Draw) -> Draw:
        taken = _REGISTERED.get(draw.__name__)
        if taken is not None and taken.draw.__module__ != draw.__module__:
            raise EstbenchError(
                f"a figure '{draw.__name__}' is registered already, by {taken.draw.__module__}; choose another name"
            )
        _REGISTERED[draw.__name__] = RegisteredFigure(draw, section, below_tables, each_problem)
        return draw

    return register


def registered_figures() -> list[RegisteredFigure]:
    """Return all figures in the order of the page; those at the same place, in the order of their registration."""
    order = {key: at for at, (key, _) in enumerate(SECTIONS)}
    return sorted(_REGISTERED.values(), key=lambda figure: (order[figure.section], figure.below_tables))
