"""Tables of two classes for logistic regression: features standardised over all rows, and a column of ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from estbench.datasets.files import files

Numbers = NDArray[np.float32]
GERMAN_CREDIT = "uci/german.data-numeric"


class TabularData(NamedTuple):
    """Features, (N, D), the last of which is 1, and labels of 0 and 1, (N,)."""

    features: Numbers
    labels: Numbers


@cache
def load_table(name: str) -> TabularData:
    """Load ``breast_cancer`` or ``german_credit``, once per process."""
    return TABLES[name]()


def _load_breast_cancer() -> TabularData:
    """Wisconsin breast cancer, as in scikit-learn: 569 rows, 30 features and the ones; 1 is benign."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415  (slow to import, and only needed here)

    bunch = load_breast_cancer()
    return _standardise(bunch.data, bunch.target)


def _load_german_credit() -> TabularData:
    """Statlog German credit, numeric: 1,000 rows, 24 features and the ones; 1 is a good risk."""
    (file,) = files([GERMAN_CREDIT])
    content = file.read()
    table = np.loadtxt(content.decode("ascii").splitlines())
    return _standardise(table[:, :-1], table[:, -1] == 1)


def _standardise(features: NDArray[np.float64], labels: NDArray[np.generic]) -> TabularData:
    scaled = (features - features.mean(0)) / features.std(0)
    with_ones = np.column_stack([scaled, np.ones(len(scaled))])
    return TabularData(with_ones.astype(np.float32), labels.astype(np.float32))


TABLES: dict[str, Callable[[], TabularData]] = {
    "breast_cancer": _load_breast_cancer,
    "german_credit": _load_german_credit,
}
