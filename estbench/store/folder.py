"""The layout of a results folder, and how a cell gets into it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from estbench.errors import EstbenchError
from estbench.experiment import Cell, Plan, content_hash
from estbench.experiment.plan import cell_from_record
from estbench.store.files import read_json, write_json
from estbench.store.status import Status
from estbench.store.tables import CURVES, GRADIENTS, THROUGHPUT, read_rows, write_table


class ResultsFolder:
    """``results/<experiment>/``: a plan, finished cells, throughput and a report.

    A cell is computed in a hidden sibling (its *workspace*) and renamed into place when it is whole, so a reader
    never sees half a cell, and a killed run finds its checkpoint again.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.cells = self.path / "cells"
        self.plan_file = self.path / "experiment.json"
        self.throughput_file = self.path / "throughput.parquet"
        self.report = self.path / "report"

    def create(self) -> None:
        """Make the folder, if it is not there yet."""
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EstbenchError(
                f"cannot make the results folder '{self.path}': {error.strerror}; choose another with --out"
            ) from None

    # The plan

    def read_plan(self) -> dict[str, Any]:
        """The recorded plan; a folder without one is an error."""
        if not self.plan_file.is_file():
            raise EstbenchError(
                f"'{self.path}' is no results folder: it has no experiment.json; make one with `estbench run`"
            )
        plan = read_json(self.plan_file, "delete it and run again: finished cells are kept")
        try:
            for cell in plan["cells"]:
                _checked_folder(cell["folder"])
                cell_from_record(cell)
        except (KeyError, TypeError):
            raise EstbenchError(f"cannot read '{self.plan_file}': its list of cells is damaged") from None
        return plan

    def record_plan(self, plan: Plan) -> int:
        """Record what is planned. Cells of the same protocol accumulate; a new protocol starts a new plan.

        The cells of an earlier protocol stay on disk, out of the plan: numbers from different protocols are
        never put into one table. Returns how many were set aside.
        """
        set_aside = 0
        protocol = _protocol_hash(plan.cells[0])
        cells = {cell.key: cell.as_dict() for cell in plan}
        if self.plan_file.exists():
            earlier = self.read_plan()
            if earlier.get("protocol") == protocol:
                cells = {**{cell["key"]: cell for cell in earlier["cells"]}, **cells}
            else:
                set_aside = len(earlier["cells"])
        write_json(
            self.plan_file,
            {
                "protocol": protocol,
                "experiment": plan.experiment.model_dump(mode="json"),
                "cells": list(cells.values()),
            },
        )
        return set_aside

    # Cells

    def workspace(self, cell: Cell) -> Path:
        """The hidden folder that a running cell works in; left behind by a killed run, and found again."""
        path = self._workspace(cell.folder)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def has_workspace(self, folder: str) -> bool:
        """Whether a cell was begun and has not been committed."""
        return self._workspace(folder).exists()

    def _workspace(self, folder: str) -> Path:
        return self.cells / f".{_checked_folder(folder)}.partial"

    def read_record(self, folder: str) -> dict[str, Any] | None:
        """A cell's ``cell.json``, or nothing where there is none yet."""
        path = self.cells / _checked_folder(folder) / "cell.json"
        if not path.parent.exists():
            return None
        record = read_json(path, "delete its folder and run again")
        if record.get("status") not in [*Status]:
            raise EstbenchError(f"'{path}' has no valid status; delete its folder and run again")
        return record

    def status(self, folder: str) -> Status | None:
        """How a cell ended; nothing where it has not."""
        record = self.read_record(folder)
        return None if record is None else Status(record["status"])

    def reopen(self, cell: Cell) -> None:
        """Take the checkpoint of an interrupted cell back into the workspace."""
        checkpoint = self.cells / cell.folder / "checkpoint.pt"
        if checkpoint.exists():
            checkpoint.replace(self.workspace(cell) / "checkpoint.pt")

    def discard(self, cell: Cell) -> None:
        """Forget a cell, its record and its workspace."""
        for path in (self.cells / cell.folder, self._workspace(cell.folder)):
            shutil.rmtree(path, ignore_errors=True)

    def commit(
        self,
        cell: Cell,
        record: dict[str, Any],
        curves: Sequence[dict[str, Any]],
        gradients: Sequence[dict[str, Any]],
        *,
        keep_checkpoint: bool,
    ) -> None:
        """Complete the workspace and rename it into place."""
        workspace = self.workspace(cell)
        for half_written in workspace.glob(".*.tmp"):  # by a run that was killed
            half_written.unlink()
        write_table(workspace / "curves.parquet", curves, CURVES)
        write_table(workspace / "gradients.parquet", gradients, GRADIENTS)
        write_json(workspace / "cell.json", record)
        if not keep_checkpoint:
            (workspace / "checkpoint.pt").unlink(missing_ok=True)
        final = self.cells / cell.folder
        if final.exists():
            replaced = final.with_name(f".{final.name}.replaced")
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
            workspace.rename(final)
            shutil.rmtree(replaced)
        else:
            workspace.rename(final)

    # Throughput

    def timed(self) -> set[tuple[str, str, int]]:
        """Problem, estimator and batch size of what has been timed."""
        if not self.throughput_file.exists():
            return set()
        rows = read_rows(self.throughput_file, THROUGHPUT)
        return {(row["problem"], row["estimator"], row["batch_size"]) for row in rows}

    def append_throughput(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add timed rounds to those already there."""
        earlier = read_rows(self.throughput_file, THROUGHPUT) if self.throughput_file.exists() else []
        write_table(self.throughput_file, [*earlier, *rows], THROUGHPUT)


def _protocol_hash(cell: Cell) -> str:
    return content_hash(cell.protocol)


def _checked_folder(name: str) -> str:
    """Refuse a cell's folder that would lead out of the results folder."""
    if not isinstance(name, str) or not name or Path(name).name != name or name.startswith("."):
        raise EstbenchError(f"'{name}' is no name of a cell's folder; the results folder was tampered with")
    return name
