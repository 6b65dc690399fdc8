"""Records on disk as JSON and Parquet, written atomically. Imports no torch."""

from estbench.store.folder import ResultsFolder
from estbench.store.merge import join, load_many, merge
from estbench.store.results import Results, load
from estbench.store.status import Status
from estbench.store.tables import CURVES, GRADIENTS, THROUGHPUT

__all__ = [
    "CURVES",
    "GRADIENTS",
    "THROUGHPUT",
    "Results",
    "ResultsFolder",
    "Status",
    "join",
    "load",
    "load_many",
    "merge",
]
