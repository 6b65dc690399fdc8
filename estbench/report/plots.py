"""The report's figures for a notebook: ``results.plot.elbo()``.

Importing this module gives ``Results`` its attribute ``plot``; ``estbench.load`` and ``estbench.run`` do so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from estbench.errors import EstbenchError, did_you_mean
from estbench.store.results import Results, draw_results_with
from estbench.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from estbench.report.analysis import Analysis
    from estbench.report.figures import RenderedFigure
    from estbench.report.figures.registry import RegisteredFigure

# Further names of figures: only those of `bounds` whose own names begin with the bound, and a plainer word.
BOUNDS = {"elbo": "bounds", "iwae": "bounds"}
PLAIN = {"statistics": "gradients"}
Plot = Callable[..., "Figure"]


class Plots:
    """The figures of the report, each a method that returns a matplotlib figure; ``dir`` lists them.

    ``register_figure`` adds those of a plugin: a function ``draw_x`` becomes the method ``x``. Every call draws again.
    ``bounds`` begins with the bound that the problem is judged by; ``elbo`` and ``iwae`` are one of the two.
    A method takes two arguments, both optional.

    ``which``
        One of several figures that belong together, by its name or the end of its name: ``"seconds"`` for
        ``elbo_seconds``; by default the first.
    ``problem``
        The label of a problem, for results with several.

    Raises
    ------
    AttributeError
        For an unknown figure; the message names the nearest.
    EstbenchError
        From a method, for an unknown problem or ``which``, and if there are no data for the figure.

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
    ...     figure = results.plot.elbo("seconds")
    >>> figure.axes[0].get_ylabel()[:9]
    'test ELBO'
    """

    def __init__(self, results: Results) -> None:
        self._results = results

    def __dir__(self) -> list[str]:
        return list(_figures())

    def __repr__(self) -> str:
        return f"figures: {', '.join(_figures())}"

    def __getattr__(self, name: str) -> Plot:
        if name.startswith("_"):  # copies, pickles and notebooks look for many
            raise AttributeError(name)
        figures = _figures()
        if name not in figures:
            raise AttributeError(f"there is no figure '{name}'; {did_you_mean(name, figures)}")
        registered = figures[name]

        def plot(which: str | None = None, *, problem: str | None = None) -> Figure:
            return self._draw(name, registered, which, problem)

        plot.__name__ = plot.__qualname__ = name
        plot.__doc__ = registered.make.__doc__
        return plot

    @cached_property
    def _analysis(self) -> Analysis:
        from estbench.report.analysis import Analysis  # noqa: PLC0415  (plotting takes a second to load)

        return Analysis(self._results)

    def _draw(self, name: str, registered: RegisteredFigure, which: str | None, problem: str | None) -> Figure:
        from estbench.report.figures.rendered import encode_figure  # noqa: PLC0415

        names = []
        for drawn in self._make(registered, self._choose(name, registered, problem)):
            if name in BOUNDS and not drawn.name.startswith(name):
                continue
            figure = drawn.figure
            if figure and (which is None or drawn.name == which or drawn.name.endswith(f"_{which}")):
                # A notebook shows a figure only after `import matplotlib.pyplot`, unless it has this.
                figure._repr_png_ = functools.partial(encode_figure, figure, "png")  # type: ignore[attr-defined]
                return figure
            names.append(drawn.name)
        if names:
            raise EstbenchError(visible(f"'{name}' has no figure '{which}'; {did_you_mean(str(which), names)}"))
        raise EstbenchError(f"these results have no data for '{name}'")

    def _make(self, registered: RegisteredFigure, problem: str) -> Iterator[RenderedFigure]:
        """Draw the figures of one function, each when it is asked for."""
        from estbench.report.figures import FigureSource  # noqa: PLC0415
        from estbench.report.figures.style import line_styles, matplotlib_style  # noqa: PLC0415

        source = FigureSource(self._analysis, line_styles(self._analysis.estimators), problem)
        with matplotlib_style():
            yield from registered.make(source)

    def _choose(self, name: str, registered: RegisteredFigure, problem: str | None) -> str:
        """Return the label of the problem that is drawn; empty for a figure over all problems."""
        problems = self._analysis.problems
        if not registered.each_problem:
            if problem is not None:
                raise EstbenchError(f"'{name}' is one figure over all problems; leave out problem=")
            return ""
        if problem is None and len(problems) != 1:
            raise EstbenchError(visible(f"'{name}' is of one problem; name it with problem=: {', '.join(problems)}"))
        if problem is not None and problem not in problems:
            raise EstbenchError(visible(f"no problem '{problem}' in these results; {did_you_mean(problem, problems)}"))
        return problem or problems[0]


def _figures() -> dict[str, RegisteredFigure]:
    """Return the registered figures by their names for a user, in the order of the page."""
    from estbench.report.figures.registry import FIGURES  # noqa: PLC0415  (plotting takes a second to load)

    drawn = {registered.name.removeprefix("draw_"): registered for registered in FIGURES.in_order()}
    named = {PLAIN.get(name, name): registered for name, registered in drawn.items()}
    return {**named, **{name: drawn[of] for name, of in BOUNDS.items()}}


draw_results_with(Plots)
