"""The figures of a report. Each registers itself with a section of the page; what is registered is drawn."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from estbench.errors import EstbenchError
from estbench.report.analysis.wording import short_problems
from estbench.report.figures.registry import FIGURES, FigureSource, RegisteredFigure, register_figure
from estbench.report.figures.rendered import RenderedFigure, name_with_problem
from estbench.report.figures.scaffold import Canvas, Margins
from estbench.report.figures.style import WIDTH, belongs_to, line_styles, matplotlib_style

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from estbench.report.analysis import Analysis
    from estbench.report.sections import Lost

__all__ = [
    "FIGURES",
    "Canvas",
    "FigureSource",
    "Margins",
    "RenderedFigure",
    "all_figures",
    "belongs_to",
    "register_figure",
]

# Every module in this folder registers its figures when it is imported.
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)


def all_figures(
    analysis: Analysis,
    width: float = WIDTH,
    lost: list[Lost] | None = None,
    *,
    kinds: Collection[str] = (),
    drawn: Mapping[str, list[RenderedFigure]] | None = None,
) -> list[RenderedFigure]:
    """Return every figure that the records have data for, in the order of the page, so many inches wide.

    A figure of a plugin that cannot be drawn is added to ``lost``; without ``lost``, its error is raised. With
    ``kinds`` the figures are files of these kinds. ``drawn`` has those that are there already, by their function.

    Raises
    ------
    EstbenchError
        If two figures have the same name, which is that of their files.
    """
    figures: dict[str, RenderedFigure] = {}
    with matplotlib_style(width):
        for each in FIGURES.shipped_first():
            ready = (drawn or {}).get(each.name)
            for part in _draw_parts(each, analysis, kinds) if ready is None else [ready]:
                with FIGURES.attempt(each, lost):
                    for figure in part:
                        if figure.name in figures:
                            raise EstbenchError(f"two figures are called '{figure.name}'; rename that of {each.name}")
                        figures[figure.name] = figure
    return list(figures.values())


def draw_registered(
    registered: RegisteredFigure, analysis: Analysis, kinds: Collection[str] = ()
) -> list[RenderedFigure]:
    """Return the figures of one registered function, each as files of some ``kinds`` if these are given."""
    with matplotlib_style():
        return [figure for part in _draw_parts(registered, analysis, kinds) for figure in part]


def _draw_parts(
    registered: RegisteredFigure, analysis: Analysis, kinds: Collection[str]
) -> Iterator[Iterator[RenderedFigure]]:
    """Yield what a function draws for each problem, if it is for single problems, or for all together."""
    for at in range(len(analysis.problems) if registered.each_problem else 1):
        yield _draw(registered, analysis, at, kinds)


def _draw(
    registered: RegisteredFigure, analysis: Analysis, at: int, kinds: Collection[str]
) -> Iterator[RenderedFigure]:
    """Yield what a function draws of one problem, or of all, with its place in the page."""
    problem = analysis.problems[at] if registered.each_problem else ""
    short = short_problems(analysis.problems)
    for drawn in registered.make(FigureSource(analysis, line_styles(analysis.estimators), problem)):
        if not isinstance(drawn, RenderedFigure):
            raise EstbenchError(f"it yields {type(drawn).__name__}; yield what Canvas.finish returns")
        figure = _of_problem(drawn, short[problem], at) if problem and len(analysis.problems) > 1 else drawn
        if not registered.ships:
            figure.files(("svg", "csv"))  # whatever is wrong with its texts and data shows here
        figure = dataclasses.replace(figure, place=registered.place)
        yield figure.as_files(kinds) if kinds else figure


def _of_problem(figure: RenderedFigure, problem: str, at: int) -> RenderedFigure:
    return dataclasses.replace(
        figure,
        name=name_with_problem(figure.name, problem, at),
        title=f"{figure.title}: {problem}",
        group=f"{figure.group}: {problem}" if figure.group else "",
        alt=f"Problem {problem}. {figure.alt}",
    )
