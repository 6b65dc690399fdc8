"""Curves and gradient statistics as TensorBoard event files, one run per cell.

Tags are ``<split>/<metric>`` and ``gradients/<trajectory>/<space>/<group>/<statistic>``. The wall time of an event is
the cell's start plus its *training* seconds, so TensorBoard's relative axis shows only training time. Nothing
depends on this machine or this moment: the same records give the same bytes.
"""

from __future__ import annotations

import io
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath, guarded

if TYPE_CHECKING:
    import pandas as pd

    from estbench.store import Results

RUN = ["problem", "estimator", "seed"]
# TensorBoard reads files whose names have "tfevents" in them.
FILE = "events.out.tfevents.0.estbench"


class Kit(NamedTuple):
    """The classes of TensorBoard that an event file is made with."""

    event: Any
    summary: Any
    writer: Any


def write_events(results: Results, folder: str | PathLike[str]) -> Path:
    """Write ``folder/<cell>/events.out.tfevents.0.estbench`` for every cell with a record; return the folder.

    A file with the same content is not written again, because TensorBoard may be reading it; files of other cells are
    removed.
    """
    folder, kit = guarded(folder), _kit()
    run_of = [*RUN, *results.swept]
    curves, gradients = (dict(iter(frame.groupby(run_of))) for frame in (results.curves, results.gradients))
    written = set()
    for cell in results.plan["cells"]:
        record = results.records.get(cell["folder"])
        if record is None:
            continue
        swept = (cell["training"][name] for name in results.swept)
        run = (cell["problem"]["label"], cell["estimator"]["label"], cell["seed"], *swept)
        scalars = _scalars(curves.get(run, results.curves[:0]), gradients.get(run, results.gradients[:0]))
        target = folder / cell["folder"] / FILE
        _replace(target, _encoded(kit, scalars, _started(record)))
        written.add(target)
    for home in folder.iterdir():
        if home.is_dir() and home / FILE not in written and (home / FILE).exists():
            (home / FILE).unlink()
            if not home.names():
                home.remove()
    return Path(folder)


def _scalars(curves: pd.DataFrame, gradients: pd.DataFrame) -> list[tuple[int, float, list[tuple[str, float]]]]:
    """Step, training seconds, and tags with their values, in the order of the steps."""
    curves, gradients = (frame.dropna(subset="step") for frame in (curves, gradients))
    at = curves.drop_duplicates("step").sort_values("step")
    steps, seconds = at["step"].to_numpy(dtype=float), at["seconds"].to_numpy(dtype=float)
    values: dict[int, list[tuple[str, float]]] = {}
    for row in curves.to_dict("records"):
        values.setdefault(row["step"], []).append((f"{row['split']}/{row['metric']}", row["value"]))
    for row in gradients.to_dict("records"):
        tag = "/".join(("gradients", *(str(row[part]) for part in ("trajectory", "space", "group", "statistic"))))
        values.setdefault(row["step"], []).append((tag, row["value"]))
    # A probe has no clock of its own: its time lies between those of the evaluations around it.
    when = {step: float(np.nan_to_num(np.interp(step, steps, seconds))) if len(steps) else 0.0 for step in values}
    return [(step, when[step], values[step]) for step in sorted(values)]


def _encoded(kit: Kit, scalars: list[tuple[int, float, list[tuple[str, float]]]], started: float) -> bytes:
    """The event file of one cell."""
    file = io.BytesIO()
    writer = kit.writer(file)
    writer.write(kit.event(wall_time=started, file_version="brain.Event:2").SerializeToString())
    for step, seconds, values in scalars:
        summary = kit.summary(value=[kit.summary.Value(tag=tag, simple_value=value) for tag, value in values])
        writer.write(kit.event(wall_time=started + seconds, step=step, summary=summary).SerializeToString())
    return file.getvalue()


def _kit() -> Kit:
    """Return the classes of the package tensorboard that write events; they need no torch and no TensorFlow."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415  (an optional extra)
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415
    except ImportError:
        raise EstbenchError(
            "TensorBoard event files need the extra 'tensorboard': pip install 'estbench[tensorboard]'"
        ) from None
    return Kit(Event, Summary, RecordWriter)


def _started(record: dict[str, Any]) -> float:
    """Return when the cell began, in seconds since the epoch; 0 if the record does not say."""
    try:
        return datetime.fromisoformat(record["started"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0


def _replace(target: GuardedPath, content: bytes) -> None:
    try:
        target.parent.mkdir()
        if target.exists() and target.stat().st_size == len(content) and target.read_bytes() == content:
            return
        target.write_bytes(content)
    except OSError as error:
        raise EstbenchError(f"cannot write the event file '{target}': {error.strerror or error}") from None
