"""The registry of tables: a table registers itself with a section of the page, and nothing else lists it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from estbench.errors import EstbenchError
from estbench.report.analysis import Analysis
from estbench.report.sections import Lost, Place, Registered, SectionRegistry
from estbench.report.tables.base import Table

MakeTable = Callable[[Analysis], Table]


TABLES: SectionRegistry[Registered] = SectionRegistry("table")


def register_table(*, section: str, order: int = 20, folded: str = "") -> Callable[[MakeTable], MakeTable]:
    """Return a decorator that adds a table to every report. The function's name is the table's name.

    Parameters
    ----------
    section
        The key of the section of the page that the table stands in: see ``estbench.report.sections``.
    order
        The place in its section, from small to large: figures are at 10 and tables at 20, unless they say otherwise.
    folded
        A line that the table is folded behind, for a long table; without one, the table is open.

    Raises
    ------
    EstbenchError
        If the page has no such section, or another module has registered a table of this name.

    Examples
    --------
    >>> from estbench.report.analysis.frames import done
    >>> from estbench.report import ESTIMATOR, Field, build_table, register_table
    >>> @register_table(section="completion")
    ... def finished(analysis):
    ...     rows = list(done(analysis.cells).itertuples())
    ...     fields = [ESTIMATOR, Field("seed", "seed"), Field("step", "steps", write="{:,}".format)]
    ...     return build_table("finished", "Finished cells", "Cells that are done.", fields, rows)
    >>> TABLES.pop("finished").place.section
    'completion'
    """

    def register(make: MakeTable) -> MakeTable:
        TABLES.add(Registered(make, Place(section, order, folded)))
        return make

    return register


def all_tables(analysis: Analysis, lost: list[Lost] | None = None) -> list[Table]:
    """Make every registered table that the records have rows for, from the top of the page to its bottom.

    A table of a plugin that cannot be made is added to ``lost``; without ``lost``, its error is raised.

    Raises
    ------
    EstbenchError
        If a table has another name than the function that makes it.
    """
    tables = []
    for registered in TABLES.shipped_first():
        with TABLES.attempt(registered, lost):
            table = registered.make(analysis)
            if not isinstance(table, Table):
                raise EstbenchError(f"it returns {type(table).__name__}; return a Table: see build_table")
            if table.name != registered.name:
                raise EstbenchError(
                    f"the function '{registered.name}' makes a table '{table.name}'; give both the same name"
                )
            if not registered.ships:
                table.files()  # whatever is wrong with its entries shows here
            if table.rows:
                tables.append(dataclasses.replace(table, place=registered.place))
    return tables
