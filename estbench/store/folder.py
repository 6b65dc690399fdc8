"""The layout of a results folder, and how a cell gets into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from estbench.errors import EstbenchError
from estbench.experiment import Cell, Experiment, Plan
from estbench.experiment.plan import protocol_hash
from estbench.experiment.sweep import joined
from estbench.store.files import DamagedError, no_link, read_json, stamp, write_json, write_text
from estbench.store.plans import SHARED, checked_folder, earlier_names, expanded, factored, written
from estbench.store.status import Status
from estbench.store.tables import CURVES, GRADIENTS, THROUGHPUT, cut_short, read_arrow, read_rows, write_table
from estbench.validation import validated

TABLES = {"curves.parquet": CURVES, "gradients.parquet": GRADIENTS}
Count = Annotated[int, Field(ge=0, lt=2**63)]
RECOMPUTE = "run again to recompute it"


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
        self._earlier: dict[str, str] = {}  # names that cells of an older schema still have on disk

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
        """The recorded plan, its cells spelled out; a folder without one is an error."""
        if not self.plan_file.is_file():
            raise EstbenchError(
                f"'{self.path}' is no results folder: it has no experiment.json; make one with `estbench run`"
            )
        plan = read_json(self.plan_file, "delete it and run again: finished cells are kept")
        try:
            cells = expanded(plan)
            self._earlier = earlier_names(plan)
            validated(Experiment, {"sweep": plan["experiment"].get("sweep", {})}, "experiment")
        except EstbenchError as error:
            raise DamagedError(f"cannot read '{self.plan_file}': {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise DamagedError(f"cannot read '{self.plan_file}': its list of cells is damaged") from None
        return {**{name: value for name, value in plan.items() if name not in SHARED}, "cells": cells}

    def record_plan(self, plan: Plan) -> int:
        """Record what is planned. Cells of the same protocol accumulate; a new protocol starts a new plan.

        The cells of an earlier protocol stay on disk, out of the plan: numbers from different protocols are
        never put into one table. So do those of an estimator or a problem that meant something else under the same
        label. Cells of an older schema get the names that they have now. Returns how many were set aside.
        """
        set_aside = 0
        protocol = protocol_hash(plan.cells[0].protocol, plan.experiment.sweep)
        experiment = plan.experiment.model_dump(mode="json")
        cells = {cell.key: cell.as_dict() for cell in plan}
        means_same = _meanings(cells.values())
        if self.plan_file.exists():
            earlier = self.read_plan()
            self._rename_earlier()
            if earlier.get("protocol") == protocol:
                kept = {cell["key"]: cell for cell in earlier["cells"] if cell["key"] in cells or means_same(cell)}
                set_aside = len(earlier["cells"]) - len(kept)
                cells = {**kept, **cells}
                experiment["sweep"] = joined([earlier["experiment"].get("sweep", {}), experiment["sweep"]])
            else:
                set_aside = len(earlier["cells"])
        self.write_plan({"protocol": protocol, "experiment": experiment}, cells.values())
        return set_aside

    def write_plan(self, head: dict[str, Any], cells: Iterable[Mapping[str, Any]]) -> None:
        """Write a plan of the given cells; ``head`` says what they have in common."""
        write_text(self.plan_file, written({**stamp(), **head, **factored(cells)}))

    def _rename_earlier(self) -> None:
        for name, was in self._earlier.items():
            for new, old in ((self.cells / name, self.cells / was), (self._hidden(name), self._hidden(was))):
                if old.is_dir() and not new.exists():
                    old.rename(new)
        self._earlier = {}

    # Cells

    def place(self, folder: str) -> Path:
        """Where a cell's files are; a symbolic link in its place is refused."""
        name = checked_folder(folder)
        path = self.cells / name
        if name in self._earlier and not path.exists():
            path = self.cells / self._earlier[name]
        return no_link(path)

    def workspace(self, cell: Cell) -> Path:
        """The hidden folder that a running cell works in; left behind by a killed run, and found again."""
        path = no_link(self._hidden(cell.folder))
        path.mkdir(parents=True, exist_ok=True)
        return path

    def has_workspace(self, folder: str) -> bool:
        """Whether a cell was begun and has not been committed."""
        return self._hidden(folder).exists()

    def _hidden(self, folder: str) -> Path:
        return self.cells / f".{checked_folder(folder)}.partial"

    def renamed(self, folder: str) -> bool:
        """Whether a cell is still on disk under the name that an older schema gave it."""
        return folder in self._earlier

    def present(self) -> set[str]:
        """The names of all that is among the cells, looked up at once."""
        try:
            return {entry.name for entry in os.scandir(self.cells)}
        except FileNotFoundError:
            return set()

    def read_record(self, folder: str, *, thorough: bool = False) -> dict[str, Any] | None:
        """A cell's ``cell.json``, or nothing where there is none yet; raise ``DamagedError`` where it is not whole.

        Of its tables only both ends are looked at, for this is asked of 100,000 cells; ``thorough`` reads them, which
        finds a turned bit, too.
        """
        path = self.place(folder)
        if not path.exists():
            return None
        record = read_json(path / "cell.json", RECOMPUTE)
        if record.get("status") not in [*Status]:
            raise DamagedError(f"'{path / 'cell.json'}' has no valid status; {RECOMPUTE}")
        try:
            _Record.model_validate(record)
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise DamagedError(f"cannot read '{path / 'cell.json'}': its {place} is damaged; {RECOMPUTE}") from None
        for file, schema in TABLES.items():
            if cut_short(path / file):
                raise DamagedError(f"cannot read '{path / file}': it is cut short or missing; {RECOMPUTE}")
            if thorough:
                read_arrow(path / file, schema)
        return record

    def status(self, folder: str, *, thorough: bool = False) -> Status | None:
        """How a cell ended; nothing where it has not, or where its record is damaged and has to be made again."""
        try:
            record = self.read_record(folder, thorough=thorough)
        except DamagedError:
            return None
        return None if record is None else Status(record["status"])

    def is_damaged(self, cell: Cell) -> bool:
        """Whether a cell has a folder whose record cannot be read: as good as none, and to be made again."""
        return self.place(cell.folder).is_dir() and self.status(cell.folder, thorough=True) is None

    def reopen(self, cell: Cell) -> None:
        """Take the checkpoint of an interrupted cell back into the workspace."""
        checkpoint = self.place(cell.folder) / "checkpoint.pt"
        if checkpoint.exists():
            no_link(checkpoint).replace(self.workspace(cell) / "checkpoint.pt")

    def discard(self, cell: Cell) -> None:
        """Forget a cell, its record and its workspace."""
        for path in (self.place(cell.folder), no_link(self._hidden(cell.folder))):
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
        final = self.place(cell.folder)
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
        rows = list(rows)
        earlier = read_rows(self.throughput_file, THROUGHPUT) if self.throughput_file.exists() else []
        if rows:
            write_table(self.throughput_file, [*earlier, *rows], THROUGHPUT)


def _meanings(cells: Iterable[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], bool]:
    """Whether what a cell is called means what it means in ``cells``: a label does not tell the version."""

    def of(cell: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], list[Any]]]:
        for kind in ("estimator", "problem"):
            variant = cell[kind]
            yield (kind, variant["label"]), [variant.get(name) for name in ("name", "options", "version", "card")]

    known = dict(item for cell in cells for item in of(cell))
    return lambda cell: all(known.get(label, meaning) == meaning for label, meaning in of(cell))


class _Record(BaseModel):
    """The parts of a ``cell.json`` that are read, where they are there; whatever else is in it stays."""

    model_config = ConfigDict(strict=True)

    stop_reason: str = ""
    step: Count = 0
    examples: Count = 0
    evaluations: Count = 0
    clocks: dict[str, float] = {}
    environment: dict[str, Any] = {}
    facts: dict[str, Any] = {}
