"""The figures of the report for a notebook: ``results.plot.final_bounds()``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from estbench.errors import EstbenchError, did_you_mean
from estbench.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from estbench.report.analysis import Analysis
    from estbench.report.figures import RenderedFigure
    from estbench.report.figures.registry import RegisteredFigure
    from estbench.store import Results


class Plots:
    """Every figure of the report that the results have data for, as a method; ``dir`` lists them.

    A method has the name of the figure's files: ``elbo_steps``. The first word of several names is the first of these
    figures: ``elbo``. So is the name of the module that draws figures: ``gradients``. Each call draws anew.

    Parameters
    ----------
    results
        Loaded or merged results; ``results.plot`` makes this object of them.

    Raises
    ------
    AttributeError
        For a name that is no figure of these results.
    EstbenchError
        From a method, for an unknown problem, or without ``problem`` where there are several.

    Examples
    --------
    >>> import tempfile
    >>> import estbench
    >>> experiment = {
    ...     "estimators": ["reparam"],
    ...     "problems": ["vae[dataset=digits,hidden=[4],latent_size=2]"],
    ...     "training": {"steps": 2},
    ...     "probe": {"replicates": 0},
    ...     "throughput": {"rounds": 0},
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = estbench.run(experiment, out=folder)
    ...     figure = results.plot.final_bounds()
    >>> type(figure)
    <class 'matplotlib.figure.Figure'>
    """

    def __init__(self, results: Results) -> None:
        self._results = results

    def __dir__(self) -> list[str]:
        return list(self._names)

    def __repr__(self) -> str:
        return f"figures: {', '.join(self._names) or 'none'}"

    def __getattr__(self, name: str) -> Callable[..., Figure]:
        if name.startswith("_"):  # copies, pickles and notebooks ask for many; none is worth a drawing
            raise AttributeError(name)
        if name not in self._names:
            raise AttributeError(f"these results have no figure '{name}'; {did_you_mean(name, self._names)}")
        registered, file, title = self._names[name]

        def plot(problem: str | None = None) -> Figure:
            return self._draw(registered, file, problem)

        plot.__name__ = plot.__qualname__ = name
        plot.__doc__ = f"{title}.\n\n``problem`` is the label of one; it may be left out if there is one."
        return plot

    @cached_property
    def _analysis(self) -> Analysis:
        from estbench.report.analysis import Analysis  # noqa: PLC0415  (plotting takes a second to load)

        return Analysis(self._results)

    @cached_property
    def _names(self) -> dict[str, tuple[RegisteredFigure, str, str]]:
        """What draws each figure, the name of its files and its title; names of figures first, then short ones."""
        from estbench.report.figures.registry import FIGURES  # noqa: PLC0415

        names: dict[str, tuple[RegisteredFigure, str, str]] = {}
        short: dict[str, tuple[RegisteredFigure, str, str]] = {}
        for registered in FIGURES.in_order():
            problems = self._analysis.problems if registered.each_problem else [""]
            figures = {each.name: each for problem in problems for each in self._make(registered, problem)}
            found = {name: (registered, name, figure.title) for name, figure in figures.items()}
            names |= found
            words = [name.partition("_")[0] for name in found]
            for word, entry in zip(words, found.values(), strict=True):
                if words.count(word) > 1:
                    short.setdefault(word, entry)
            module = registered.make.__module__.rpartition(".")[2]
            if found and not module.startswith("_"):
                short.setdefault(module, next(iter(found.values())))
        return names | {name: entry for name, entry in short.items() if name not in names}

    def _make(self, registered: RegisteredFigure, problem: str) -> list[RenderedFigure]:
        from estbench.report.figures import FigureSource  # noqa: PLC0415
        from estbench.report.figures.style import line_styles, matplotlib_style  # noqa: PLC0415

        with matplotlib_style():
            styles = line_styles(self._analysis.estimators)
            return list(registered.make(FigureSource(self._analysis, styles, problem)))

    def _draw(self, registered: RegisteredFigure, name: str, problem: str | None) -> Figure:
        """Return one figure of a problem."""
        chosen = self._choose(registered, name, problem)
        for drawn in self._make(registered, chosen):
            if drawn.name == name:
                return drawn.figure
        raise EstbenchError(f"there are no data for the figure '{name}' of '{visible(chosen)}'")

    def _choose(self, registered: RegisteredFigure, name: str, problem: str | None) -> str:
        """Return the problem to draw; empty for a figure over all of them."""
        problems = self._analysis.problems
        if not registered.each_problem:
            if problem is not None:
                raise EstbenchError(f"the figure '{name}' is over all problems; leave out problem=")
            return ""
        if problem is None and len(problems) > 1:
            raise EstbenchError(visible(f"name one of the problems with problem=: {', '.join(problems)}"))
        if problem is not None and problem not in problems:
            raise EstbenchError(visible(f"no problem '{problem}'; {did_you_mean(problem, problems)}"))
        return problem or problems[0]
