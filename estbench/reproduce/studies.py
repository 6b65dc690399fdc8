"""A study: the code that computes the quantities of a card, in a Python file beside it.

A study is a function of checked options. It is written with the public parts of estbench only:

    @study(MeanOptions)
    def mean(options: MeanOptions) -> StudyResult: ...

A study is code: its file is run as ``--plugin`` runs one, and only when the card that names it is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from estbench.errors import EstbenchError
from estbench.options import BaseOptions, Frozen, validated
from estbench.plugins import load_plugin
from estbench.reproduce.card import ReproductionCard
from estbench.stats import Interval


class Panel(Frozen):
    """A panel of a card's figure whose values are not those of the other panels.

    ``label`` and ``log`` are of its y axis. ``level`` is a value that the claim is about, such as a ratio of one: it is
    drawn as a grey line, and ``level_name`` says in the legend what that is.
    """

    label: str
    log: bool = False
    level: float | None = None
    level_name: str = ""


@dataclass(frozen=True)
class StudyResult:
    """The quantities that a study computed, and the points of its figure.

    ``quantities`` are by the names that a card's expectations use. ``points`` are made by ``figure_point``; ``axes``
    are the labels of x and value, and ``log_axes`` says which of the two are logarithmic. A panel whose values are of
    another kind has its own y axis in ``panels``. ``bars`` says what the bars of the figure are.
    """

    quantities: dict[str, Interval]
    points: list[dict[str, Any]] = field(default_factory=list)
    axes: tuple[str, str] = ("", "")
    log_axes: tuple[bool, bool] = (False, False)
    panels: dict[str, Panel] = field(default_factory=dict)
    bars: str = "95 % intervals"


@dataclass(frozen=True)
class Study:
    """A function of checked options; call it with plain data, such as a card's options."""

    options: type[BaseOptions]
    compute: Callable[[Any], StudyResult]

    @property
    def name(self) -> str:
        """The name of its file, without ``.py``."""
        return self.compute.__module__.rpartition(".")[2]

    def __call__(self, options: dict[str, Any]) -> StudyResult:
        """Compute the quantities; raise ``EstbenchError`` if an option is unknown or wrong."""
        return self.compute(validated(self.options, options, f"options of the study '{self.name}'"))


Options = TypeVar("Options", bound=BaseOptions)


def study(options: type[Options]) -> Callable[[Callable[[Options], StudyResult]], Study]:
    """Make a function of such options the study of its file; a decorator.

    Examples
    --------
    >>> from estbench.options import BaseOptions
    >>> from estbench.reproduce import StudyResult, study
    >>> from estbench.stats import t_interval
    >>> class MeanOptions(BaseOptions):
    ...     values: tuple[float, ...]
    >>> @study(MeanOptions)
    ... def mean(options):
    ...     return StudyResult({"mean": t_interval(options.values)})
    >>> mean({"values": [1.0, 2.0, 6.0]}).quantities["mean"].value
    3.0
    """

    def decorator(function: Callable[[Options], StudyResult]) -> Study:
        return Study(options, function)

    return decorator


def figure_point(
    panel: str, series: str, x: float, interval: Interval, expected: float | None = None
) -> dict[str, Any]:
    """Return a point of a card's figure: the panel, the line in it, the place, the value with its interval.

    ``expected`` is the value that theory gives, if it gives one.
    """
    value, low, high, _ = interval
    point = {"panel": panel, "series": series, "x": x, "value": value, "low": low, "high": high}
    return point if expected is None else {**point, "expected": expected}


def load_study(path: str | Path) -> Study:
    """Run a Python file, as ``--plugin`` does, and return its study; ``EstbenchError`` unless it has exactly one."""
    module = load_plugin(path)
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, Study) and value.compute.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise EstbenchError(f"'{path}' has {len(own)} studies; write one function with the decorator @study(Options)")
    return own[0]


def find_study(card: ReproductionCard) -> Path:
    """Return the Python file that a card names; raise ``EstbenchError`` unless it lies in the card's own folder."""
    if card.folder is None:
        raise EstbenchError(f"card '{card.name}' was not read from a file, so there is no study beside it")
    path = card.folder / f"{card.study}.py"
    if not path.is_file():
        raise EstbenchError(f"card '{card.name}' names the study '{card.study}', but there is no '{path}'; write it")
    if path.resolve().parent != card.folder.resolve():
        raise EstbenchError(f"'{path}' is a link out of the folder of card '{card.name}'; put the file itself there")
    return path
