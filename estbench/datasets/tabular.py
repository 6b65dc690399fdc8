"""Small tables of two classes, for regression: features standardised over all rows, and a column of ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from estbench.datasets.files import files

Numbers = NDArray[np.float32]
GERMAN_CREDIT = "uci/german.data-numeric"


class Table(NamedTuple):
    """Features (N, D), the last of them 1, and labels (N,) of 0 and 1."""

    features: Numbers
    labels: Numbers


@cache
def load_table(name: str) -> Table:
    """Load ``breast_cancer`` or ``german_credit``, once per process."""
    return TABLES[name]()


def _breast_cancer() -> Table:
    """Wisconsin breast cancer, as in scikit-learn: 569 rows, 30 features and the ones; 1 is benign."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  (a second's import, needed here only)

    bunch = load_breast_cancer()
    return _standardised(bunch.data, bunch.target)


def _german_credit() -> Table:
    """Statlog German credit, numeric: 1,000 rows, 24 features and the ones; 1 is a good risk."""
    (file,) = files([GERMAN_CREDIT])
    content = file.read()
    table = np.loadtxt(content.decode("ascii").splitlines())
    return _standardised(table[:, :-1], table[:, -1] == 1)


def _standardised(features: NDArray[np.float64], labels: NDArray[np.generic]) -> Table:
    scaled = (features - features.mean(0)) / features.std(0)
    with_ones = np.column_stack([scaled, np.ones(len(scaled))])
    return Table(with_ones.astype(np.float32), labels.astype(np.float32))


TABLES: dict[str, Callable[[], Table]] = {"breast_cancer": _breast_cancer, "german_credit": _german_credit}
