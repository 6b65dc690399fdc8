"""Small tables of two classes, for regression: features standardised over all rows, and a column of ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from estbench.datasets.idx import DATA_DIR
from estbench.errors import EstbenchError

Numbers = NDArray[np.float32]
GERMAN_CREDIT = "uci/german.data-numeric"
GERMAN_CREDIT_SHA256 = "2752b044394958ab6dd193a0b56ca0f0b3a2d8bc7cb8c008e35a5e84bbec02f8"


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
    root = os.environ.get(DATA_DIR)
    if not root:
        raise EstbenchError(
            f"german_credit needs its file: set {DATA_DIR} to the folder that holds {GERMAN_CREDIT}"
            " (breast_cancer needs none)"
        )
    path = Path(root) / GERMAN_CREDIT
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EstbenchError(f"german_credit: cannot read '{path}': {error.strerror}; put the UCI file there") from None
    if hashlib.sha256(content).hexdigest() != GERMAN_CREDIT_SHA256:
        raise EstbenchError(f"'{path}' is not the UCI file: its SHA-256 is not {GERMAN_CREDIT_SHA256}; fetch it again")
    table = np.loadtxt(content.decode("ascii").splitlines())
    return _standardised(table[:, :-1], table[:, -1] == 1)


def _standardised(features: NDArray[np.float64], labels: NDArray[np.generic]) -> Table:
    scaled = (features - features.mean(0)) / features.std(0)
    with_ones = np.column_stack([scaled, np.ones(len(scaled))])
    return Table(with_ones.astype(np.float32), labels.astype(np.float32))


TABLES: dict[str, Callable[[], Table]] = {"breast_cancer": _breast_cancer, "german_credit": _german_credit}
