"""The tables of a report, from records only. Every value comes with its n, and with an interval if n allows one."""

from importlib import import_module
from pkgutil import iter_modules

from estbench.report.tables.cells import cells
from estbench.report.tables.gradients import gradient_variance
from estbench.report.tables.ranking import ranking
from estbench.report.tables.registry import all_tables, register_table
from estbench.report.tables.summary import summary
from estbench.report.tables.throughput import throughput

# Every module in this folder registers its tables when it is imported.
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = ["all_tables", "cells", "gradient_variance", "ranking", "register_table", "summary", "throughput"]
