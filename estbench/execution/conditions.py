"""Under what conditions the cells of a run are computed: plain data, the same for all of them, sent to workers."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Conditions:
    """The results folder and how to compute; none of it is part of a cell's key."""

    folder: Path
    device: str
    threads: int
    engine: str = "in-process"
    slots: int = 1
    timeout: float | None = None
    keep_checkpoints: bool = False
    exit_if_hung: bool = False
    plugins: tuple[Path, ...] = ()
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def provenance(self) -> dict[str, Any]:
        """What a record tells of them."""
        return {"engine": self.engine, "slots": self.slots, "timeout": self.timeout}
