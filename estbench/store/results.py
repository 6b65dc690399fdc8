"""Records as data frames, for reports and for users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estbench.errors import EstbenchError
from estbench.experiment.plan import code_of
from estbench.experiment.sweep import swept_training
from estbench.guarded import DamagedError
from estbench.limits import RECORDS_BYTES, TABLES_BYTES, Budget
from estbench.options import shortened
from estbench.store.archive import Archive
from estbench.store.files import check_schema
from estbench.store.folder import ResultsFolder, check_plan, check_record
from estbench.store.homes import ArchiveHome, FolderHome, Home, is_archive, rounds_of
from estbench.store.status import Status
from estbench.store.tables import CURVES, GRADIENTS, PICTURES, THROUGHPUT
from estbench.visible import visible

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MISSING = "missing"
CLOCKS = ("training", "evaluation", "probe", "writing")
# What the short form of results names one by one.
MOST_NAMED, LONGEST_LABEL = 10, 80


@dataclass(frozen=True)
class Results:
    """The plan, the records and the tables of a results folder, or of several that were merged.

    Data frames are in long form, have a column for each swept setting of training, and are read when they are first
    used. ``homes`` maps the name of a cell's folder to where its tables are, if that is not in ``path``/cells;
    ``others`` are the further results folders, or archives, of a merge; ``origins`` maps the folder of a cell to the
    one it is from, if that is not ``path``.
    """

    path: Path
    plan: dict[str, Any]
    records: dict[str, dict[str, Any]]
    homes: dict[str, Home] = field(default_factory=dict)
    others: tuple[Path, ...] = ()
    origins: dict[str, Path] = field(default_factory=dict)

    def __repr__(self) -> str:
        planned = self.plan["cells"]
        ended = Counter(str(record["status"]) for record in self.records.values())
        done, missing = ended.pop(Status.DONE, 0), len(planned) - len(self.records)
        others = [f", {count} {status}" for status, count in (*ended.items(), (MISSING, missing)) if count]
        name = self.plan["experiment"].get("name", self.path.name)
        lines = [f"Results '{name}' in '{self.path}': {done} of {len(planned)} runs done{''.join(others)}"]
        for kind in ("estimator", "problem"):
            labels = list(dict.fromkeys(str(cell[kind]["label"]) for cell in planned))
            more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
            shown = ", ".join(shortened(label, LONGEST_LABEL) for label in labels[:MOST_NAMED])
            lines.append(f"  {len(labels)} {kind}{'' if len(labels) == 1 else 's'}: {shown}{more}")
        return "\n".join(map(visible, lines))

    @cached_property
    def plot(self) -> Any:
        """The figures of the report as methods: ``results.plot.elbo()``; see ``estbench.report.plots.Plots``.

        Raises ``EstbenchError`` if the results were loaded without ``estbench.load`` or ``estbench.run``.
        """
        if _draw_with is None:
            raise EstbenchError("figures are drawn by the report: load the results with estbench.load")
        return _draw_with(self)

    @property
    def sweep(self) -> dict[str, list[Any]]:
        """The values of every swept setting; empty if nothing is swept."""
        return dict(self.plan["experiment"].get("sweep", {}))

    @property
    def swept(self) -> list[str]:
        """The swept settings of training: cells with the same labels and seed may differ in them."""
        return swept_training(self.sweep)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per planned cell; ``status`` is a ``Status``, or ``missing``."""
        import pandas as pd

        return pd.DataFrame([self._row(cell) for cell in self.plan["cells"]])

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per cell, step, split and metric."""
        return self._collect("curves.parquet", CURVES)

    @cached_property
    def gradients(self) -> pd.DataFrame:
        """One row per cell, checkpoint, space, group and statistic."""
        return self._collect("gradients.parquet", GRADIENTS)

    @cached_property
    def pictures(self) -> pd.DataFrame:
        """One row per picture of a trained model: its kind, number, shape and pixels; see ``estbench.measure``."""
        return self._collect("pictures.parquet", PICTURES, optional=True)

    @cached_property
    def throughput(self) -> pd.DataFrame:
        """One row per timed round; a round that is in several folders counts once.

        Rounds of a planned label are left out if they are of other code than the plan's.
        """
        return self._timed.dropna(subset="seconds").reset_index(drop=True)

    @cached_property
    def not_timed(self) -> pd.DataFrame:
        """The rows of ``throughput`` without seconds: of estimators that diverged, or that torch cannot compile."""
        return self._timed[self._timed["seconds"].isna()].reset_index(drop=True)

    @cached_property
    def _timed(self) -> pd.DataFrame:
        import pandas as pd

        frames = [table.to_pandas() for path in (self.path, *self.others) if (table := rounds_of(path)) is not None]
        if not frames:
            return pd.DataFrame(columns=THROUGHPUT.names)
        rounds: pd.DataFrame = pd.concat(frames, ignore_index=True)
        rounds = rounds.drop_duplicates(ignore_index=True) if self.others else rounds
        planned = {(cell["problem"]["label"], cell["estimator"]["label"]): cell for cell in self.plan["cells"]}
        expected = {labels: code_of(cell["problem"], cell["estimator"]) for labels, cell in planned.items()}
        timed = zip(rounds["problem"], rounds["estimator"], rounds["code"], strict=True)
        current = [expected.get((problem, estimator), code) == code for problem, estimator, code in timed]
        return rounds.loc[current]

    def _row(self, cell: dict[str, Any]) -> dict[str, Any]:
        record = self.records.get(cell["folder"], {})
        clocks = record.get("clocks", {})
        return {
            "key": cell["key"],
            "folder": cell["folder"],
            "estimator": cell["estimator"]["label"],
            "problem": cell["problem"]["label"],
            "seed": cell["seed"],
            **{name: cell["training"].get(name) for name in self.swept},
            "status": record.get("status", MISSING),
            "stop_reason": record.get("stop_reason", ""),
            "step": record.get("step", 0),
            "examples": record.get("examples", 0),
            "evaluations": record.get("evaluations", 0),
            **{f"{clock}_seconds": clocks.get(clock, float("nan")) for clock in CLOCKS},
        }

    def home(self, folder: str) -> Home:
        """Return where the tables of a cell are."""
        return self.homes.get(folder) or FolderHome(ResultsFolder(self.path).cells / folder)

    def origin(self, folder: str) -> Path:
        """Return the results folder, or the archive, that a cell is from."""
        return self.origins.get(folder, self.path)

    def _collect(self, file: str, schema: pa.Schema, *, optional: bool = False) -> pd.DataFrame:
        """Return one table of all cells; concatenated in Arrow, because a thousand small data frames are slow.

        A cell may lack a table that is ``optional``.
        """
        import numpy as np
        import pandas as pd
        import pyarrow as pa

        cells = [cell for cell in self.plan["cells"] if cell["folder"] in self.records]
        if optional:
            cells = [cell for cell in cells if self.home(cell["folder"]).has(file)]
        tables, budget = [], Budget(TABLES_BYTES)
        for cell in cells:
            tables.append(self.home(cell["folder"]).table(file, schema))
            budget.spend(tables[-1].nbytes, f"{self.path} (all {file} together)")
        lengths = [len(table) for table in tables]
        labels = {
            "estimator": [cell["estimator"]["label"] for cell in cells],
            "problem": [cell["problem"]["label"] for cell in cells],
            "seed": [cell["seed"] for cell in cells],
            **{name: [cell["training"].get(name) for cell in cells] for name in self.swept},
        }
        if not sum(lengths):
            return pd.DataFrame(columns=[*labels, *schema.names])
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
        for at, (name, values) in enumerate(labels.items()):
            frame.insert(at, name, pd.Series(values).take(np.repeat(np.arange(len(cells)), lengths)).to_numpy())
        return frame


_draw_with: Callable[[Results], Any] | None = None


def draw_results_with(make: Callable[[Results], Any]) -> None:
    """Set what makes ``Results.plot``: the report is above the store, and names itself here."""
    global _draw_with  # noqa: PLW0603  (one for the process)
    _draw_with = make


def load(path: str | PathLike[str]) -> Results:
    """Read a results folder or an archive; raise ``EstbenchError`` if it is none, is damaged, or has another schema."""
    if is_archive(path):
        return _load_archive(Archive(path))
    folder = ResultsFolder(path)
    plan = folder.read_plan()
    budget = Budget(RECORDS_BYTES)
    records = {cell["folder"]: folder.read_record(cell["folder"], budget=budget) for cell in plan["cells"]}
    return Results(folder.path, plan, {name: record for name, record in records.items() if record is not None})


def _load_archive(archive: Archive) -> Results:
    """Return the results in an archive; their tables are read when they are first used."""
    again = "get it again from where it comes"
    check_schema(archive.plan, archive.path, again)
    plan = check_plan(archive.plan, archive.path, again)
    planned = {cell["folder"] for cell in plan["cells"]}
    for folder, record in archive.records.items():
        check_schema(record, f"{archive.path}: {folder}", again)
        check_record(record, f"{archive.path}: {folder}", again)
        if folder not in planned:
            raise DamagedError(f"'{archive.path}' has a record of {folder}, which is not in its plan; {again}")
    homes: dict[str, Home] = {folder: ArchiveHome(archive, folder) for folder in archive.records}
    return Results(archive.path, plan, archive.records, homes)
