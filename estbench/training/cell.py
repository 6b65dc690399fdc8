"""Run one cell and leave its record behind, whatever happens."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.experiment import Cell
from estbench.measure import Clocks, describe_environment
from estbench.measure.randomness import seeded
from estbench.store import ResultsFolder, Status, certificates
from estbench.training.deadline import Deadline
from estbench.training.loop import Outcome, train
from estbench.training.state import CheckpointError, State, fingerprint, initial_problem, noise_seed

# A killed run loses at most this much of its work.
CHECKPOINT_SECONDS = 30.0
# What a process that was ended at its deadline leaves in the workspace.
OVERSTAYED = "overstayed.txt"


def run_cell(
    cell: Cell,
    folder: ResultsFolder,
    device: torch.device,
    *,
    interrupted: Callable[[], bool] = lambda: False,
    on_step: Callable[[int], None] = lambda _step: None,
    keep_checkpoint: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    timeout: float | None = None,
    execution: Mapping[str, Any] | None = None,
    remark: Callable[[str], None] = lambda _line: None,
) -> Outcome:
    """Compute a cell, from its checkpoint where there is one, and commit its record to ``folder``.

    What goes wrong inside the cell is its outcome, ``failed``, and never stops the others; what goes wrong with the
    folder (a full disk) is raised, for it concerns them all. A cell that takes more than ``timeout`` seconds stops
    between two steps, as ``timeout``; one that hangs ends its process, and ``give_up`` is for whoever comes next.
    ``execution`` says where it ran, for its record. ``remark`` is told what is worth a line in the cell's log.
    """
    folder.reopen(cell)
    workspace = folder.workspace(cell)
    checkpoint = workspace / "checkpoint.pt"
    deadline = Deadline(timeout)
    clocks = Clocks(device)
    started = datetime.now(UTC)
    state: State | None = None
    error: dict[str, str] | None = None
    with seeded(noise_seed(cell), device), deadline.enforced(workspace / OVERSTAYED):
        try:
            state = State(cell, device)
            spent = state.restore(checkpoint)
            if spent is None and checkpoint.exists():
                remark("its checkpoint is damaged or of another cell, and is not used: it begins anew")
            clocks = Clocks(device, spent)
            outcome = train(
                state,
                clocks,
                checkpoint,
                checkpoint_seconds=checkpoint_seconds,
                interrupted=lambda: interrupted() or deadline(),
                on_step=on_step,
                trajectories=folder.trajectories,
            )
            if outcome.status is Status.INTERRUPTED and not interrupted():
                outcome = Outcome(Status.TIMEOUT, f"stopped at step {state.step} after {timeout:g} s")
        except CheckpointError:
            raise
        except Exception as problem:  # noqa: BLE001  (an estimator is anybody's code)
            outcome = Outcome(Status.FAILED, f"{type(problem).__name__}: {problem}")
            error = {
                "type": type(problem).__name__,
                "message": str(problem),
                "traceback": "" if isinstance(problem, EstbenchError) else traceback.format_exc(),
            }
        if state is not None:
            lines = tuple(f"step {row['step']}: {row['measurement']} {row['message']}" for row in state.remarks)
            for line in lines:
                remark(line)
            outcome = replace(outcome, remarks=lines)
        if state is not None and keep_checkpoint and outcome.status is Status.DONE:
            state.save(checkpoint, clocks.seconds)
    folder.commit(
        cell,
        _record(cell, folder, outcome, state, clocks, device, started, error, execution),
        state.curves if state else [],
        state.gradients if state else [],
        keep_checkpoint=keep_checkpoint or outcome.status in {Status.INTERRUPTED, Status.TIMEOUT},
    )
    return outcome


def give_up(
    cell: Cell,
    folder: ResultsFolder,
    device: torch.device,
    outcome: Outcome,
    stack: str = "",
    execution: Mapping[str, Any] | None = None,
) -> None:
    """Commit the record of a cell whose processes died or hung, with what is known of why.

    A timeout keeps its checkpoint, so that a run with more time goes on from there; a cell whose process dies begins
    anew, for what it left may be what kills it.
    """
    error = {"type": outcome.status.value, "message": outcome.reason, "traceback": stack}
    (folder.workspace(cell) / OVERSTAYED).unlink(missing_ok=True)
    record = _record(cell, folder, outcome, None, Clocks(device), device, datetime.now(UTC), error, execution)
    folder.commit(cell, record, [], [], keep_checkpoint=outcome.status is Status.TIMEOUT)


def _record(
    cell: Cell,
    folder: ResultsFolder,
    outcome: Outcome,
    state: State | None,
    clocks: Clocks,
    device: torch.device,
    started: datetime,
    error: dict[str, str] | None,
    execution: Mapping[str, Any] | None,
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "cell": cell.as_dict(),
        "status": outcome.status.value,
        "stop_reason": outcome.reason,
        "clocks": clocks.seconds,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(device),
        "execution": dict(execution or {}),
        "error": error,
    }
    if state is not None:
        groups = state.problem.groups()
        record |= {
            "step": state.step,
            "examples": state.examples,
            "evaluations": state.evaluations,
            "remarks": state.remarks,
            "facts": state.estimator.facts(),
            "certificate": certificates.claim(
                cell.estimator.label, estimators.REGISTRY.get(cell.estimator.name), folder.path
            ),
            "parameters": {name: sum(weight.numel() for weight in group) for name, group in groups.items()},
            "fingerprints": {
                "initial_weights": fingerprint(initial_problem(cell, device)),
                "final_weights": fingerprint(state.problem),
            },
        }
    return record
