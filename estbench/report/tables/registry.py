"""The registry of tables: a table registers itself with a section of the page, and nothing else lists it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from estbench.errors import EstbenchError, did_you_mean
from estbench.report.page.sections import SECTIONS
from estbench.report.tables.base import Table
from estbench.store import Results


@dataclass(frozen=True)
class RegisteredTable:
    """A function that makes a table, and the place of the table in the page: see ``register_table``."""

    make: Callable[[Results], Table]
    section: str
    above_figures: bool = False
    folded: str = ""
    of_all_cells: bool = False

    @property
    def place(self) -> tuple[int, bool, bool]:
        """The order in the page: by section, those above the figures first, those that are folded last."""
        keys = [key for key, _ in SECTIONS]
        return keys.index(self.section), not self.above_figures, bool(self.folded)


# By the name of the table, in the order of registration.
TABLES: dict[str, RegisteredTable] = {}


def register_table(
    *, section: str, above_figures: bool = False, folded: str = "", of_all_cells: bool = False
) -> Callable[[Callable[[Results], Table]], Callable[[Results], Table]]:
    """Return a decorator that adds a table to every report. The function's name is the table's name.

    Parameters
    ----------
    section
        The key of the section of the page that the table stands in: see ``estbench.report.page.sections``.
    above_figures
        Whether the table stands above the figures of its section, and not below them.
    folded
        A line that the table is folded behind, for a long table; without one, the table is open.
    of_all_cells
        Of a sweep, whether the table is made from all cells and not only from those of the picked settings.

    Raises
    ------
    EstbenchError
        If the page has no such section, or another module has registered a table of this name.

    Examples
    --------
    >>> from estbench.report.analysis import frames
    >>> from estbench.report.tables.fields import ESTIMATOR, Field, build_table
    >>> @register_table(section="summary")
    ... def finished(results):
    ...     rows = list(frames.done(frames.cells(results)).itertuples())
    ...     fields = [ESTIMATOR, Field("seed", "seed"), Field("step", "steps", write="{:,}".format)]
    ...     return build_table("finished", "Finished cells", "Cells that are done.", fields, rows)
    >>> TABLES.pop("finished").section
    'summary'
    """
    keys = [key for key, _ in SECTIONS]
    if section not in keys:
        raise EstbenchError(f"the page has no section '{section}'; {did_you_mean(section, keys)}")

    def register(make: Callable[[Results], Table]) -> Callable[[Results], Table]:
        name = make.__name__
        taken = TABLES.get(name)
        # A plugin that is loaded again registers the same table again.
        if taken is not None and taken.make.__module__ != make.__module__:
            raise EstbenchError(f"the table '{name}' exists already in {taken.make.__module__}; choose another name")
        TABLES[name] = RegisteredTable(make, section, above_figures, folded, of_all_cells)
        return make

    return register


def all_tables(results: Results, whole: Results | None = None) -> list[Table]:
    """Make every registered table that the records have rows for, from the top of the page to its bottom.

    Parameters
    ----------
    results
        The results; of a sweep, those of the picked settings.
    whole
        The results with all cells of a sweep. Without a sweep they are ``results``.

    Raises
    ------
    EstbenchError
        If a table has another name than the function that makes it.
    """
    tables = []
    # Tables of one place keep the order of their registration.
    for name, registered in sorted(TABLES.items(), key=lambda item: item[1].place):
        table = registered.make(whole or results if registered.of_all_cells else results)
        if table.name != name:
            raise EstbenchError(f"the function '{name}' makes a table '{table.name}'; give both the same name")
        if len(table.data):
            tables.append(table)
    return tables
