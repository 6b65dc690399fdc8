"""Cells trained in a tenth of a second each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import pytest
import torch

from estbench.store import ResultsFolder, Status
from estbench.store.files import read_json
from estbench.training import State, run_cell
from estbench.training.isolation import accept_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from estbench.training import Outcome


class Trained(NamedTuple):
    """What a cell left behind."""

    outcome: Outcome
    record: dict[str, Any]
    curves: pd.DataFrame
    gradients: pd.DataFrame
    path: Path

    @property
    def bits(self) -> tuple[str, list[Any], list[Any]]:
        """Everything that must not depend on how the run was scheduled: all but seconds."""
        curves, gradients = self.curves.drop(columns="seconds"), self.gradients
        return (
            self.record["fingerprints"]["final_weights"],
            [*map(repr, curves.to_dict("records"))],
            [*map(repr, gradients.to_dict("records"))],
        )


@pytest.fixture(autouse=True)
def _threads_of_the_tests() -> None:
    """Threads of pytest and its plugins are of the host, as in a run."""
    accept_threads()


@pytest.fixture(autouse=True)
def _one_thread(one_thread) -> None:
    """A cell this small is slower on two."""


@pytest.fixture
def make_state(make_cell) -> Callable[..., State]:
    """Make the state of a cell, before its first step."""
    return lambda *arguments, **changes: State(make_cell(*arguments, **changes), torch.device("cpu"))


@pytest.fixture
def train_cell(make_cell, tmp_path) -> Callable[..., Trained]:
    """Train a cell and read what it left behind; the same ``name`` is the same results folder."""

    def train(
        estimator: str = "reparam", *, name: str = "results", options: dict[str, Any] | None = None, **changes: Any
    ):
        cell = make_cell(estimator, **changes)
        folder = ResultsFolder(tmp_path / name)
        folder.create()
        outcome = run_cell(cell, folder, torch.device("cpu"), **(options or {}))
        path = folder.cells / cell.folder
        assert outcome.status in set(Status)
        return Trained(
            outcome,
            read_json(path / "cell.json"),
            pd.read_parquet(path / "curves.parquet"),
            pd.read_parquet(path / "gradients.parquet"),
            path,
        )

    return train


@pytest.fixture
def stop_at() -> Callable[[int], Callable[[], bool]]:
    """An interruption that arrives once so many steps of this process were taken."""

    def make(step: int) -> Callable[[], bool]:
        asked = 0

        def interrupted() -> bool:
            nonlocal asked
            asked += 1
            return asked >= step

        return interrupted

    return make
