"""Run one cell and write its record, whatever happens."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch

from estbench.certify.record import certificate_claim, certified_parts
from estbench.devices import deterministic
from estbench.estimators import ESTIMATORS
from estbench.experiment import Cell
from estbench.failures import Failure, failure_of, is_stop
from estbench.measure import Clocks, describe_environment
from estbench.measure.gradients.groups import disjoint
from estbench.randomness import seeded
from estbench.store import ResultsFolder, Status
from estbench.training.isolation import isolated, seed_generators, threads_left
from estbench.training.loop import Outcome, interruption, train
from estbench.training.own_metrics import describe_metrics
from estbench.training.shared_checkpoints import probe_shared
from estbench.training.state import CheckpointError, State, fingerprint, initial_problem, noise_seed
from estbench.training.stopping import Deadline

# A killed run loses at most this much of its work.
CHECKPOINT_SECONDS = 30.0
# What a process that was ended at its deadline leaves in the workspace.
HANG_TRACEBACK = "overstayed.txt"


def run_cell(
    cell: Cell,
    folder: ResultsFolder,
    device: torch.device,
    *,
    interrupted: Callable[[], bool] = lambda: False,
    on_step: Callable[[int], None] = lambda _step: None,
    on_phase: Callable[[str], None] = lambda _name: None,
    keep_checkpoint: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    timeout: float | None = None,
    exit_if_hung: bool = False,
    execution: Mapping[str, Any] | None = None,
    remark: Callable[[str], None] = lambda _line: None,
    ready: Callable[[], None] = lambda: None,
) -> Outcome:
    """Compute a cell, from its checkpoint where there is one, and commit its record to ``folder``.

    Whatever is raised inside the cell is its outcome, ``failed``, and never stops the others; only a signal to stop
    (``interrupted`` says so) and what ``on_step`` or ``on_phase`` raises pass. What goes wrong with the folder (a full
    disk) is raised, because it concerns them all. A cell that takes more than ``timeout`` seconds stops between two
    steps, as ``timeout``; one that hangs ends its process if ``exit_if_hung``, and the next process calls
    ``record_failure``. ``on_phase`` is called with the name of a clock when another one starts. ``execution`` says
    where it ran, for its record. ``remark`` is called with each line for the cell's log. ``ready`` is called first,
    and fails as the cell does. Settings of the process that the cell changed are put back.
    """
    folder.reopen(cell)
    workspace = folder.workspace(cell)
    checkpoint = workspace / "checkpoint.pt"
    deadline = Deadline(timeout)
    clocks = Clocks(device)
    started = datetime.now(UTC)
    state: State | None = None
    failure: Failure | None = None
    details: dict[str, Any] = {}
    passed: list[BaseException] = []
    not_repeated: set[str] = set()
    phase = ""

    def stop() -> bool:
        return interrupted() or deadline()

    def stepped(step: int) -> None:
        with passing():
            on_step(step)

    def begins(name: str) -> None:
        nonlocal phase
        if name != phase:
            phase = name
            with passing():
                on_phase(name)

    @contextlib.contextmanager
    def passing() -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            passed.append(error)
            raise

    with (
        deterministic(device, not_repeated.add),
        seeded(noise_seed(cell), device),
        deadline.enforced(workspace / HANG_TRACEBACK, exit_if_hung=exit_if_hung),
        isolated() as left,
    ):
        seed_generators(noise_seed(cell))
        environment = describe_environment(device)
        try:
            ready()
            state = State(cell, device)
            spent = state.restore(checkpoint)
            if spent is None and checkpoint.exists():
                remark(f"its checkpoint {state.not_resumed}, and is not used: it starts again")
            clocks = Clocks(device, spent, begins)
            with clocks("probe"):
                probed = probe_shared(state, folder.trajectories, stop)
            if probed:
                outcome = train(
                    state,
                    clocks,
                    checkpoint,
                    checkpoint_seconds=checkpoint_seconds,
                    interrupted=stop,
                    on_step=stepped,
                )
            else:
                state.save(checkpoint, clocks.seconds)
                outcome = interruption(state)
            if outcome.status is Status.INTERRUPTED and not interrupted():
                outcome = Outcome(Status.TIMEOUT, f"stopped at step {state.step} after {timeout:g} s")
            if keep_checkpoint and outcome.status is Status.DONE:
                state.save(checkpoint, clocks.seconds)
        except CheckpointError:
            raise
        except BaseException as error:
            if passed or is_stop(error, interrupted):
                raise
            failure = failure_of(error)
        for name, describe in _details(cell, state, folder, device).items():
            try:
                details[name] = json.loads(json.dumps(describe(), allow_nan=False))
            except BaseException as error:
                if is_stop(error, interrupted):
                    raise
                failure = failure or failure_of(error)
        if failure is not None:
            outcome = Outcome(Status.FAILED, failure.reason)
    remarks = [*state.remarks] if state else []
    messages = [f"changed {name}, which was put back" for name in left]
    messages += [f"left the thread '{name}' running" for name in threads_left()]
    messages += [f"used {name}, which gives other bits each time on {device.type}" for name in sorted(not_repeated)]
    step = state.step if state else 0
    remarks = [
        *remarks,
        *({"step": step, "measurement": "isolation", "message": f"the cell {each}"} for each in messages),
    ]
    lines = tuple(f"step {row['step']}: {row['measurement']} {row['message']}" for row in remarks)
    for line in lines:
        remark(line)
    outcome = replace(outcome, remarks=lines)
    record = _record(cell, outcome, clocks, environment, started, failure, execution) | details | {"remarks": remarks}
    tables = (state.curves, state.gradients, state.pictures) if state else ([], [], [])
    keep = keep_checkpoint or outcome.status in {Status.INTERRUPTED, Status.TIMEOUT}
    try:
        folder.commit(cell, record, *tables, keep_checkpoint=keep)
    except (TypeError, ValueError, ArithmeticError) as error:  # a number that is none, by an estimator's doing
        failure = failure_of(error)
        outcome = Outcome(Status.FAILED, failure.reason)
        record = _record(cell, outcome, clocks, environment, started, failure, execution)
        folder.commit(cell, record, keep_checkpoint=False)
    return outcome


def record_failure(
    cell: Cell,
    folder: ResultsFolder,
    device: torch.device,
    outcome: Outcome,
    stack: str = "",
    execution: Mapping[str, Any] | None = None,
) -> None:
    """Write the record of a cell whose processes died or hung, with what is known about the reason.

    A timeout keeps its checkpoint, so that a run with more time can resume. A cell whose process died starts again,
    because its checkpoint may be what kills it.
    """
    failure = Failure(outcome.status.value, outcome.reason, stack)
    (folder.workspace(cell) / HANG_TRACEBACK).unlink(missing_ok=True)
    environment = describe_environment(device)
    record = _record(cell, outcome, Clocks(device), environment, datetime.now(UTC), failure, execution)
    folder.commit(cell, record, keep_checkpoint=outcome.status is Status.TIMEOUT)


def _record(
    cell: Cell,
    outcome: Outcome,
    clocks: Clocks,
    environment: Mapping[str, Any],
    started: datetime,
    failure: Failure | None,
    execution: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "cell": cell.as_dict(),
        "status": outcome.status.value,
        "stop_reason": outcome.reason,
        "clocks": clocks.seconds,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": dict(environment),
        "execution": dict(execution or {}),
        "error": failure.as_dict() if failure else None,
    }


def _details(
    cell: Cell, state: State | None, folder: ResultsFolder, device: torch.device
) -> dict[str, Callable[[], Any]]:
    """Return functions for the record's facts about model and estimator: separate ones, because a plugin may raise."""
    if state is None:
        return {}
    return {
        "step": lambda: state.step,
        "examples": lambda: state.examples,
        "evaluations": lambda: state.evaluations,
        **({"metrics": lambda: describe_metrics(cell)} if cell.evaluation.metrics else {}),
        "facts": lambda: state.estimator.facts(),  # noqa: PLW0108  (to look it up may fail, too)
        "certificate": lambda: certificate_claim(
            cell.estimator.label, map(ESTIMATORS.entry, certified_parts(cell.estimator.label)), folder.certificates
        ),
        "parameters": lambda: {
            name: sum(weight.numel() for weight in group) for name, group in disjoint(state.problem.groups()).items()
        },
        "fingerprints": lambda: {
            "initial_weights": fingerprint(initial_problem(cell, device)),
            "final_weights": fingerprint(state.problem),
        },
    }
