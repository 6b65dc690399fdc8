"""Records as data frames, for reports and for users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estbench.store.folder import ResultsFolder
from estbench.store.tables import CURVES, GRADIENTS, THROUGHPUT, read_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MISSING = "missing"
CLOCKS = ("training", "evaluation", "probe", "writing")


@dataclass(frozen=True)
class Results:
    """The planned cells of one results folder and what they left behind, in long form."""

    path: Path
    plan: dict[str, Any]
    records: dict[str, dict[str, Any]]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per planned cell; ``status`` is one of the closed set, or ``missing``."""
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
    def throughput(self) -> pd.DataFrame:
        """One row per timed round."""
        import pandas as pd

        path = ResultsFolder(self.path).throughput_file
        return read_table(path, THROUGHPUT) if path.exists() else pd.DataFrame(columns=THROUGHPUT.names)

    def _row(self, cell: dict[str, Any]) -> dict[str, Any]:
        record = self.records.get(cell["folder"], {})
        clocks = record.get("clocks", {})
        return {
            "key": cell["key"],
            "folder": cell["folder"],
            "estimator": cell["estimator"]["label"],
            "problem": cell["problem"]["label"],
            "seed": cell["seed"],
            "status": record.get("status", MISSING),
            "stop_reason": record.get("stop_reason", ""),
            "step": record.get("step", 0),
            "examples": record.get("examples", 0),
            "evaluations": record.get("evaluations", 0),
            **{f"{clock}_seconds": clocks.get(clock, float("nan")) for clock in CLOCKS},
        }

    def _collect(self, file: str, schema: pa.Schema) -> pd.DataFrame:
        import pandas as pd

        frames = []
        for cell in self.plan["cells"]:
            if cell["folder"] not in self.records:
                continue
            frame = read_table(ResultsFolder(self.path).cells / cell["folder"] / file, schema)
            frame.insert(0, "estimator", cell["estimator"]["label"])
            frame.insert(1, "problem", cell["problem"]["label"])
            frame.insert(2, "seed", cell["seed"])
            if len(frame):
                frames.append(frame)
        columns = ["estimator", "problem", "seed", *schema.names]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def load(path: str | Path) -> Results:
    """Read a results folder; raise ``EstbenchError`` if it is none, is damaged, or is of a newer schema."""
    folder = ResultsFolder(path)
    plan = folder.read_plan()
    records = {cell["folder"]: folder.read_record(cell["folder"]) for cell in plan["cells"]}
    return Results(folder.path, plan, {name: record for name, record in records.items() if record is not None})
