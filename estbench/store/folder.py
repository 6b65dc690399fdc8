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
from estbench.experiment.sweep import merge_sweeps
from estbench.guarded import TEMPORARY, DamagedError, GuardedPath, guarded
from estbench.limits import RECORD_BYTES, RECORD_PARTS, Budget
from estbench.options import validated
from estbench.store.files import fit_to_limits, read_json, schema_header, write_json, write_text
from estbench.store.plan_file import FOLDER, check_folder_name, format_plan, read_cells
from estbench.store.status import Status
from estbench.store.tables import (
    CURVES,
    GRADIENTS,
    PICTURES,
    THROUGHPUT,
    is_cut_short,
    read_arrow,
    read_rows,
    write_table,
)

TABLES = {"curves.parquet": CURVES, "gradients.parquet": GRADIENTS}
Count = Annotated[int, Field(ge=0, lt=2**63)]
RECOMPUTE = "run again to recompute it"
PLAN_AGAIN = "delete it and run again: finished cells are kept"


class ResultsFolder:
    """``results/<experiment>/``: a plan, finished cells, throughput and a report.

    A cell is computed in a hidden folder next to its own (its *workspace*), which is renamed when the cell is complete.
    So a reader never sees half a cell, and a killed run finds its checkpoint again.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        root = guarded(path)
        self.cells = root / "cells"
        self.plan_file = root / "experiment.json"
        self.throughput_file = root / "throughput.parquet"
        self.report = root / "report"
        self.trajectories = root / "trajectories"
        # Certificates of a user's own estimators: one folder for all results folders next to each other.
        self.certificates = GuardedPath(self.path.parent) / "certificates"

    def create(self) -> None:
        """Make the folder if it does not exist; raise ``EstbenchError`` if that is impossible."""
        try:
            self.cells.mkdir()
        except OSError as error:
            raise EstbenchError(
                f"cannot make the results folder '{self.path}': {error.strerror}; choose another with --out"
            ) from None

    # The plan

    def read_plan(self) -> dict[str, Any]:
        """Return the recorded plan; raise ``EstbenchError`` if there is none, or if it is damaged."""
        if not self.plan_file.exists():
            raise EstbenchError(
                f"'{self.path}' is no results folder: it has no experiment.json; make one with `estbench run`"
            )
        return check_plan(read_json(self.plan_file, PLAN_AGAIN), self.plan_file, PLAN_AGAIN)

    def record_plan(self, plan: Plan) -> list[str]:
        """Record a plan. Cells of the same protocol accumulate; a new protocol starts a new plan.

        Numbers of different protocols are never in one table. So cells of an earlier protocol leave the plan, but stay
        on disk, and are in the plan again when their protocol is run again. The same holds for cells of an estimator or
        a problem that had another meaning under the same label. Returns remarks about such cells, one line each.
        """
        protocol = protocol_hash(plan.cells[0].protocol, plan.experiment.sweep)
        experiment = plan.experiment.model_dump(mode="json")
        cells = {cell.key: cell.as_dict() for cell in plan}
        find_change = _compare_labels(cells.values())
        remarks: list[str] = []
        if self.plan_file.exists():
            earlier = self.read_plan()
            recorded = {cell["key"]: cell for cell in earlier["cells"]}
            if earlier.get("protocol") == protocol:
                changed = Counter(
                    change for key, cell in recorded.items() if key not in cells and (change := find_change(cell))
                )
                remarks += [f"{_count_cells(count)} {change}" for change, count in changed.items()]
                kept = {key: cell for key, cell in recorded.items() if key in cells or not find_change(cell)}
                experiment["sweep"] = merge_sweeps([earlier["experiment"].get("sweep", {}), experiment["sweep"]])
            else:
                kept = {
                    cell["key"]: cell
                    for cell in self._find_finished(recorded.keys() | cells.keys())
                    if not find_change(cell) and _has_protocol(cell, protocol, plan.experiment.sweep)
                }
                aside = f"{_count_cells(len(recorded))} of an earlier protocol"
                remarks += [f"{aside} set aside; run that experiment again to see them"]
                remarks += (
                    [f"{_count_cells(len(kept))} of this protocol, done before, in the plan again"] if kept else []
                )
            cells = {**kept, **cells}
        self.write_plan({"protocol": protocol, "experiment": experiment}, cells.values())
        return remarks

    def _find_finished(self, excluded: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yield the finished cells on disk, planned or not, except those with an ``excluded`` key."""
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
            if cell is not None and cell.folder == name and cell.key not in excluded:
                yield cell.as_dict()

    def write_plan(self, head: dict[str, Any], cells: Iterable[Mapping[str, Any]]) -> None:
        """Write a plan of the given cells; ``head`` is what the plan says besides them."""
        write_text(self.plan_file, format_plan({**schema_header(), **head, "cells": cells}))

    # Cells

    def place(self, folder: str) -> GuardedPath:
        """Return the folder of a finished cell."""
        return self.cells / check_folder_name(folder)

    def workspace(self, cell: Cell) -> GuardedPath:
        """Make and return the hidden folder that a running cell works in; it survives a killed run."""
        path = self._hidden(cell.folder)
        path.mkdir()
        return path

    def has_workspace(self, folder: str) -> bool:
        """Whether a cell was started and has not been committed."""
        return self._hidden(folder).exists()

    def _hidden(self, folder: str) -> GuardedPath:
        return self.cells / f".{check_folder_name(folder)}.partial"

    def present(self) -> set[str]:
        """Return the names of everything in the folder of cells, with one look at the disk."""
        return set(self.cells.names())

    def read_record(
        self, folder: str, *, thorough: bool = False, budget: Budget | None = None
    ) -> dict[str, Any] | None:
        """Return a cell's ``cell.json``, or None if there is none yet; raise ``DamagedError`` if it is incomplete.

        Only the first and the last bytes of its tables are checked, because this is called for every cell of a plan.
        ``thorough`` reads the tables, which also finds a changed bit. ``budget`` limits the memory of all records.
        """
        path = self.place(folder)
        if not path.exists():
            return None
        record = read_json(path / "cell.json", RECOMPUTE, (RECORD_BYTES, RECORD_PARTS), budget)
        check_record(record, path / "cell.json", RECOMPUTE)
        for file, schema in TABLES.items():
            if is_cut_short(path / file):
                raise DamagedError(f"cannot read '{path / file}': it is cut short or missing; {RECOMPUTE}")
            if thorough:
                read_arrow(path / file, schema)
        return record

    def status(self, folder: str, *, thorough: bool = False) -> Status | None:
        """Return how a cell ended; None if it has not ended, or if its record is damaged and has to be recomputed."""
        try:
            record = self.read_record(folder, thorough=thorough)
        except DamagedError:
            return None
        return None if record is None else Status(record["status"])

    def is_damaged(self, cell: Cell) -> bool:
        """Whether a cell has a folder whose record cannot be read, so that the cell has to be recomputed."""
        return self.place(cell.folder).is_dir() and self.status(cell.folder, thorough=True) is None

    def reopen(self, cell: Cell) -> None:
        """Move the checkpoint of an interrupted cell back into the workspace."""
        checkpoint = self.place(cell.folder) / "checkpoint.pt"
        if checkpoint.exists():
            checkpoint.rename(self.workspace(cell) / "checkpoint.pt")

    def discard(self, cell: Cell) -> None:
        """Remove a cell's folder and its workspace."""
        for path in (self.place(cell.folder), self._hidden(cell.folder)):
            if path.exists():
                path.remove()

    def commit(
        self,
        cell: Cell,
        record: dict[str, Any],
        curves: Sequence[dict[str, Any]] = (),
        gradients: Sequence[dict[str, Any]] = (),
        pictures: Sequence[dict[str, Any]] = (),
        *,
        keep_checkpoint: bool,
    ) -> None:
        """Write the record and the tables into the workspace, and rename it to the cell's folder."""
        workspace = self.workspace(cell)
        for name in filter(TEMPORARY.fullmatch, workspace.names()):  # left by a killed run
            (workspace / name).unlink()
        write_table(workspace / "curves.parquet", curves, CURVES)
        write_table(workspace / "gradients.parquet", gradients, GRADIENTS)
        (workspace / "pictures.parquet").unlink(missing_ok=True)
        if pictures:
            write_table(workspace / "pictures.parquet", pictures, PICTURES)
        write_json(workspace / "cell.json", fit_to_limits(record, (RECORD_BYTES, RECORD_PARTS), uncut="cell"))
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

    def timed(self) -> set[tuple[str, int, str]]:
        """Return the code (``Cell.code``), the batch size and the mode of everything that has been timed."""
        if not self.throughput_file.exists():
            return set()
        rows = read_rows(self.throughput_file, THROUGHPUT)
        return {(row["code"], row["batch_size"], row["mode"]) for row in rows}

    def append_throughput(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add timed rounds to the recorded ones."""
        rows = list(rows)
        earlier = read_rows(self.throughput_file, THROUGHPUT) if self.throughput_file.exists() else []
        if rows:
            write_table(self.throughput_file, [*earlier, *rows], THROUGHPUT)


def check_plan(plan: dict[str, Any], what: object, remedy: str) -> dict[str, Any]:
    """Return a plan with the parts of its cells that are used; raise ``DamagedError`` if it cannot be one."""
    try:
        cells = read_cells(plan)
        recorded = plan["experiment"]
        used = {"estimators": recorded.get("estimators", ["reparam"]), "sweep": recorded.get("sweep", {})}
        validated(Experiment, used, "experiment")
    except EstbenchError as error:
        raise DamagedError(f"cannot read '{what}': {error}; {remedy}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise DamagedError(f"cannot read '{what}': its list of cells is damaged; {remedy}") from None
    return {**plan, "cells": cells}


def check_record(record: dict[str, Any], what: object, remedy: str) -> None:
    """Raise ``DamagedError`` if a document cannot be the record of a cell."""
    if record.get("status") not in [*Status]:
        raise DamagedError(f"'{what}' has no valid status; {remedy}")
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise DamagedError(f"cannot read '{what}': its {field} is damaged; {remedy}") from None


def _compare_labels(cells: Iterable[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that says why a cell cannot be in one plan with ``cells``: a label has another meaning there.

    It returns "" if the cell can be.
    """
    planned = {(kind, cell[kind]["label"]): cell[kind] for cell in cells for kind in ("estimator", "problem")}

    def find_change(cell: Mapping[str, Any]) -> str:
        for kind in ("estimator", "problem"):
            recorded, now = cell[kind], planned.get((kind, cell[kind]["label"]))
            if now is not None and identity(recorded) != identity(now):
                changed = next(name for name, value in identity(now).items() if identity(recorded)[name] != value)
                return f"of an earlier version of '{recorded['name']}' set aside (its {changed} changed)"
        return ""

    return find_change


def _has_protocol(cell: Mapping[str, Any], protocol: str, sweep: Mapping[str, Sequence[Any]]) -> bool:
    """Whether a cell has this protocol, and swept settings only have values of the sweep."""
    settings = {**cell["problem"]["options"], **cell["estimator"]["options"], **cell["training"]}
    return protocol_hash(cell, sweep) == protocol and all(
        settings[name] in values for name, values in sweep.items() if name in settings
    )


def _count_cells(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


class _Remark(BaseModel):
    """A measurement that is missing or was taken in another way than asked, and why."""

    model_config = ConfigDict(strict=True)

    step: Count
    measurement: str
    message: str


class _Record(BaseModel):
    """The parts of a ``cell.json`` that are used, all optional; other parts are kept as they are."""

    model_config = ConfigDict(strict=True)

    stop_reason: str = ""
    step: Count = 0
    examples: Count = 0
    evaluations: Count = 0
    clocks: dict[str, float] = {}
    environment: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    remarks: list[_Remark] = []
