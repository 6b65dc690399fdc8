"""The layout of a results folder, and how a cell gets into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from estbench.errors import EstbenchError
from estbench.experiment import Cell, Experiment, Plan
from estbench.experiment.plan import cell_from_record, identity, protocol_hash
from estbench.experiment.sweep import joined
from estbench.guarded import TEMPORARY, DamagedError, GuardedPath, guarded
from estbench.limits import RECORD_BYTES, RECORD_PARTS, Budget
from estbench.options import validated
from estbench.store.files import fitted, read_json, stamp, write_json, write_text
from estbench.store.plans import FOLDER, SHARED, checked_folder, expanded, factored, written
from estbench.store.status import Status
from estbench.store.tables import CURVES, GRADIENTS, THROUGHPUT, cut_short, read_arrow, read_rows, write_table

TABLES = {"curves.parquet": CURVES, "gradients.parquet": GRADIENTS}
Count = Annotated[int, Field(ge=0, lt=2**63)]
RECOMPUTE = "run again to recompute it"


class ResultsFolder:
    """``results/<experiment>/``: a plan, finished cells, throughput and a report.

    A cell is computed in a hidden sibling (its *workspace*) and renamed into place when it is whole, so a reader
    never sees half a cell, and a killed run finds its checkpoint again.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        root = guarded(path)
        self.cells = root / "cells"
        self.plan_file = root / "experiment.json"
        self.throughput_file = root / "throughput.parquet"
        self.report = root / "report"
        self.trajectories = root / "trajectories"
        # Those of a user's own estimators, for all experiments in the folder that this one lies in.
        self.certificates = GuardedPath(self.path.parent) / "certificates"

    def create(self) -> None:
        """Make the folder, if it is not there yet."""
        try:
            self.cells.mkdir()
        except OSError as error:
            raise EstbenchError(
                f"cannot make the results folder '{self.path}': {error.strerror}; choose another with --out"
            ) from None

    # The plan

    def read_plan(self) -> dict[str, Any]:
        """The recorded plan, its cells spelled out; a folder without one is an error."""
        if not self.plan_file.exists():
            raise EstbenchError(
                f"'{self.path}' is no results folder: it has no experiment.json; make one with `estbench run`"
            )
        plan = read_json(self.plan_file, "delete it and run again: finished cells are kept")
        try:
            cells = expanded(plan)
            known = plan["experiment"]
            named = {"estimators": known.get("estimators", ["reparam"]), "sweep": known.get("sweep", {})}
            validated(Experiment, named, "experiment")
        except EstbenchError as error:
            raise DamagedError(f"cannot read '{self.plan_file}': {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise DamagedError(f"cannot read '{self.plan_file}': its list of cells is damaged") from None
        return {**{name: value for name, value in plan.items() if name not in SHARED}, "cells": cells}

    def record_plan(self, plan: Plan) -> list[str]:
        """Record what is planned. Cells of the same protocol accumulate; a new protocol starts a new plan.

        Numbers of different protocols never stand in one table: cells of an earlier protocol stay on disk, out of the
        plan, and are in it again when their protocol is run again. So do those of an estimator or a problem that meant
        something else under the same label. Returns what happened to them, in lines for people.
        """
        protocol = protocol_hash(plan.cells[0].protocol, plan.experiment.sweep)
        experiment = plan.experiment.model_dump(mode="json")
        cells = {cell.key: cell.as_dict() for cell in plan}
        changes = _changes(cells.values())
        remarks: list[str] = []
        if self.plan_file.exists():
            earlier = self.read_plan()
            known = {cell["key"]: cell for cell in earlier["cells"]}
            if earlier.get("protocol") == protocol:
                changed = Counter(
                    change for key, cell in known.items() if key not in cells and (change := changes(cell))
                )
                remarks += [f"{_counted(count)} {change}" for change, count in changed.items()]
                kept = {key: cell for key, cell in known.items() if key in cells or not changes(cell)}
                experiment["sweep"] = joined([earlier["experiment"].get("sweep", {}), experiment["sweep"]])
            else:
                kept = {
                    cell["key"]: cell
                    for cell in self._finished(known.keys() | cells.keys())
                    if not changes(cell) and _fits(cell, protocol, plan.experiment.sweep)
                }
                remarks += [f"{_counted(len(known))} of an earlier protocol set aside; run it again to see them"]
                remarks += [f"{_counted(len(kept))} of this protocol, done before, in the plan again"] if kept else []
            cells = {**kept, **cells}
        self.write_plan({"protocol": protocol, "experiment": experiment}, cells.values())
        return remarks

    def _finished(self, but: Collection[str]) -> Iterator[dict[str, Any]]:
        """The finished cells on disk, planned or not, without those of some keys."""
        for name in sorted(self.present()):
            if not FOLDER.fullmatch(name):
                continue
            try:
                record = self.read_record(name)
                cell = (
                    cell_from_record(record["cell"]) if record is not None and Status(record["status"]).final else None
                )
            except (AttributeError, EstbenchError, LookupError):
                continue
            if cell is not None and cell.folder == name and cell.key not in but:
                yield cell.as_dict()

    def write_plan(self, head: dict[str, Any], cells: Iterable[Mapping[str, Any]]) -> None:
        """Write a plan of the given cells; ``head`` says what they have in common."""
        write_text(self.plan_file, written({**stamp(), **head, **factored(cells)}))

    # Cells

    def place(self, folder: str) -> GuardedPath:
        """Where a cell's files are."""
        return self.cells / checked_folder(folder)

    def workspace(self, cell: Cell) -> GuardedPath:
        """The hidden folder that a running cell works in; left behind by a killed run, and found again."""
        path = self._hidden(cell.folder)
        path.mkdir()
        return path

    def has_workspace(self, folder: str) -> bool:
        """Whether a cell was begun and has not been committed."""
        return self._hidden(folder).exists()

    def _hidden(self, folder: str) -> GuardedPath:
        return self.cells / f".{checked_folder(folder)}.partial"

    def present(self) -> set[str]:
        """The names of all that is among the cells, looked up at once."""
        return set(self.cells.names())

    def read_record(
        self, folder: str, *, thorough: bool = False, budget: Budget | None = None
    ) -> dict[str, Any] | None:
        """A cell's ``cell.json``, or nothing where there is none yet; raise ``DamagedError`` where it is not whole.

        Of its tables only both ends are looked at, for this is asked of 100,000 cells; ``thorough`` reads them, which
        finds a turned bit, too. ``budget`` is for all records that are held at a time.
        """
        path = self.place(folder)
        if not path.exists():
            return None
        record = read_json(path / "cell.json", RECOMPUTE, (RECORD_BYTES, RECORD_PARTS), budget)
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
            checkpoint.rename(self.workspace(cell) / "checkpoint.pt")

    def discard(self, cell: Cell) -> None:
        """Forget a cell, its record and its workspace."""
        for path in (self.place(cell.folder), self._hidden(cell.folder)):
            if path.exists():
                path.remove()

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
        for name in filter(TEMPORARY.fullmatch, workspace.names()):  # by a run that was killed
            (workspace / name).unlink()
        write_table(workspace / "curves.parquet", curves, CURVES)
        write_table(workspace / "gradients.parquet", gradients, GRADIENTS)
        write_json(workspace / "cell.json", fitted(record, (RECORD_BYTES, RECORD_PARTS), whole="cell"))
        if not keep_checkpoint:
            (workspace / "checkpoint.pt").unlink(missing_ok=True)
        final = self.place(cell.folder)
        if final.exists():
            replaced = self.cells / f".{final.name}.replaced"
            replaced.remove()
            final.rename(replaced)
            workspace.rename(final)
            replaced.remove()
        else:
            workspace.rename(final)

    # Throughput

    def timed(self) -> set[tuple[str, int]]:
        """The code (``Cell.code``) and the batch size of what has been timed."""
        if not self.throughput_file.exists():
            return set()
        rows = read_rows(self.throughput_file, THROUGHPUT)
        return {(row["code"], row["batch_size"]) for row in rows}

    def append_throughput(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add timed rounds to those already there."""
        rows = list(rows)
        earlier = read_rows(self.throughput_file, THROUGHPUT) if self.throughput_file.exists() else []
        if rows:
            write_table(self.throughput_file, [*earlier, *rows], THROUGHPUT)


def _changes(cells: Iterable[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    """Why a cell does not stand beside ``cells``: what it is called means something else there; "" if it does not."""
    known = {(kind, cell[kind]["label"]): cell[kind] for cell in cells for kind in ("estimator", "problem")}

    def change(cell: Mapping[str, Any]) -> str:
        for kind in ("estimator", "problem"):
            ours, now = cell[kind], known.get((kind, cell[kind]["label"]))
            if now is not None and identity(ours) != identity(now):
                what = next(name for name, value in identity(now).items() if identity(ours)[name] != value)
                return f"of an earlier version of '{ours['name']}' set aside (its {what} changed)"
        return ""

    return change


def _fits(cell: Mapping[str, Any], protocol: str, sweep: Mapping[str, Sequence[Any]]) -> bool:
    """Whether a cell is of a protocol, with swept settings among their values."""
    settings = {**cell["problem"]["options"], **cell["estimator"]["options"], **cell["training"]}
    return protocol_hash(cell, sweep) == protocol and all(
        settings[name] in values for name, values in sweep.items() if name in settings
    )


def _counted(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


class _Remark(BaseModel):
    """A measurement that could not be taken as asked, and why."""

    model_config = ConfigDict(strict=True)

    step: Count
    measurement: str
    message: str


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
    remarks: list[_Remark] = []
