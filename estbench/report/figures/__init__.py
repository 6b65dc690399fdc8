"""The figures of a report. Each registers itself with a section of the page; what is registered is drawn."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from estbench.errors import EstbenchError
from estbench.report.analysis.wording import short_problems
from estbench.report.figures.registry import FIGURES, FigureSource, register_figure
from estbench.report.figures.rendered import RenderedFigure, name_with_problem
from estbench.report.figures.scaffold import Canvas, Margins
from estbench.report.figures.style import WIDTH, belongs_to, line_styles, matplotlib_style

if TYPE_CHECKING:
    from estbench.report.analysis import Analysis
    from estbench.report.sections import Lost

__all__ = [
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


def all_figures(analysis: Analysis, width: float = WIDTH, lost: list[Lost] | None = None) -> list[RenderedFigure]:
    """Return every figure that the records have data for, in the order of the page, so many inches wide.

    A figure of a plugin that cannot be drawn is added to ``lost``; without ``lost``, its error is raised.

    Raises
    ------
    EstbenchError
        If two figures have the same name, which is that of their files.
    """
    styles = line_styles(analysis.estimators)
    problems = analysis.problems
    short = short_problems(problems)
    figures: dict[str, RenderedFigure] = {}
    with matplotlib_style(width):
        for registered in FIGURES.shipped_first():
            for at, problem in enumerate(problems if registered.each_problem else [""]):
                with FIGURES.attempt(registered, lost):
                    for drawn in registered.make(FigureSource(analysis, styles, problem)):
                        if not isinstance(drawn, RenderedFigure):
                            raise EstbenchError(f"it yields {type(drawn).__name__}; yield what Canvas.finish returns")
                        named = (
                            _of_problem(drawn, short[problem], at)
                            if registered.each_problem and len(problems) > 1
                            else drawn
                        )
                        if named.name in figures:
                            raise EstbenchError(
                                f"two figures are called '{named.name}'; rename that of {registered.name}"
                            )
                        if not registered.ships:
                            named.files(("svg", "csv"))  # whatever is wrong with its texts and data shows here
                        figures[named.name] = dataclasses.replace(named, place=registered.place)
    return list(figures.values())


def _of_problem(figure: RenderedFigure, problem: str, at: int) -> RenderedFigure:
    return dataclasses.replace(
        figure,
        name=name_with_problem(figure.name, problem, at),
        title=f"{figure.title}: {problem}",
        group=f"{figure.group}: {problem}" if figure.group else "",
        alt=f"Problem {problem}. {figure.alt}",
    )
