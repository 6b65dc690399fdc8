"""One cell however often it is asked for: tries are counted, deadlines kept, and only the death of a process counts."""

from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest
import torch

import estbench
from estbench import EstbenchError
from estbench.execution import Listener, task
from estbench.execution.config import RunConfig
from estbench.execution.planning import as_experiment, plan_of
from estbench.store import ResultsFolder, Status
from estbench.store.attempts import attempt, forget_attempts
from estbench.store.lock import exclusive, one_run
from estbench.training.cell import HANG_TRACEBACK


def never():
    return False


@pytest.fixture
def planned(tiny, tmp_path):
    """A results folder with a plan, its only cell, and how to execute that."""
    plan = plan_of(as_experiment(tiny))
    folder = ResultsFolder(tmp_path / "results")
    folder.create()
    folder.record_plan(plan)
    (cell,) = plan

    def execute(*, run="this", **changes):
        config = RunConfig(folder.path, "cpu", 1, run=run)
        return task.execute(cell, config, **{"interrupted": never, "on_step": lambda _: None, **changes})

    return folder, cell, execute


def die(folder, cell):
    """Leave what a process leaves that dies on a cell."""
    path = folder.cells / f".{cell.folder}.attempts"
    with attempt(folder, cell, never):
        content = path.read_bytes()
    path.write_bytes(content)


def test_a_file_that_is_edited_after_the_plan_ends_the_run(tiny, tmp_path):
    images = np.random.default_rng(0).random((30, 4, 4))
    np.save(tmp_path / "a.npy", images)

    class Edits(Listener):
        def planned(self, plan, stored):
            np.save(tmp_path / "a.npy", images[::-1])

    problem = f'vae[dataset="file:{tmp_path}/a.npy",hidden=[8],latent_size=2]'
    with pytest.raises(EstbenchError, match="was changed after the run was planned; run again"):
        estbench.run({**tiny, "problems": [problem]}, out=tmp_path / "out", listener=Edits())
    results = estbench.run({**tiny, "problems": [problem]}, out=tmp_path / "out")
    assert set(results.cells["status"]) == {"done"}


def test_a_cell_that_is_stored_is_not_computed_again(planned):
    folder, cell, execute = planned
    begun = []
    assert execute(begun=lambda: begun.append(1)).status is Status.DONE
    record = (folder.cells / cell.folder / "cell.json").read_bytes()
    assert execute(begun=lambda: begun.append(2)).status is Status.DONE
    assert begun == [1]
    assert (folder.cells / cell.folder / "cell.json").read_bytes() == record
    assert [path.name for path in folder.cells.iterdir()] == [cell.folder]


@pytest.mark.parametrize(("status", "tried"), [("failed", 1), ("timeout", 1), ("interrupted", 2)])
def test_a_cell_that_failed_is_tried_again_only_by_another_run(planned, monkeypatch, status, tried):
    """As when a worker dies just after it gave its answer: the engine does not know of it, and asks again."""
    *_, execute = planned

    def end_badly(cell, folder, device, *, execution, **_):
        begun.append(1)
        outcome = task.Outcome(Status(status), "as told")
        task.record_failure(cell, folder, device, outcome, "", execution)
        return outcome

    begun = []
    monkeypatch.setattr(task, "run_cell", end_badly)
    assert execute().status is execute().status is Status(status)
    assert len(begun) == tried
    monkeypatch.undo()
    assert execute(run="another").status is Status.DONE


@pytest.mark.parametrize("execution", [None, [], "local", 3, {"run": None}, {"run": ["this"]}], ids=str)
def test_a_failure_of_unknown_origin_is_tried_again(planned, execution):
    """Records may come from a stranger, or from a version that did not say which run made them."""
    folder, cell, execute = planned
    task.record_failure(cell, folder, torch.device("cpu"), task.Outcome(Status.FAILED, "as told"), "", {})
    path = folder.cells / cell.folder / "cell.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "execution": execution}))
    assert execute().status is Status.DONE


@pytest.mark.parametrize("deaths", range(task.TRIES + 1))
def test_a_cell_whose_process_died_is_tried_a_stated_number_of_times(planned, deaths):
    folder, cell, execute = planned
    for _ in range(deaths):
        die(folder, cell)
    outcome = execute()
    record = folder.read_record(cell.folder)
    assert outcome.status is Status(record["status"])
    if deaths < task.TRIES:
        assert outcome.status is Status.DONE
    else:
        assert outcome.status is Status.FAILED
        assert outcome.reason.startswith(f"its process died in each of {deaths} tries")
        assert record["error"]["message"] == outcome.reason
    log = (folder.cells / cell.folder / "log.txt").read_text()
    assert f"{deaths} earlier tries died" in log
    assert str(outcome.status) in log
    assert [path.name for path in folder.cells.iterdir()] == [cell.folder], "no marker is left"


def test_a_death_after_a_new_checkpoint_does_not_count(planned):
    folder, cell, execute = planned
    for number in range(10):
        (folder.workspace(cell) / "checkpoint.pt").write_bytes(bytes(number + 1))
        die(folder, cell)
    assert execute().status is Status.DONE


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_an_exception_is_no_death(planned, error):
    *_, execute = planned

    def stop(_step):
        raise error

    for _ in range(task.TRIES + 1):
        with pytest.raises(error):
            execute(begun=lambda: stop(0))
    assert execute().status is Status.DONE


def test_attempts_are_forgotten_but_not_those_of_somebody_at_work(planned):
    folder, cell, _ = planned
    die(folder, cell)
    forget_attempts(folder, cell)
    with attempt(folder, cell, never) as earlier:
        assert earlier == 0
        forget_attempts(folder, cell)
        with pytest.raises(BlockingIOError), attempt(folder, cell, lambda: True):
            pass


def test_a_cell_that_another_process_is_on_is_waited_for(planned):
    folder, cell, execute = planned
    outcomes = []
    waiting = threading.Thread(target=lambda: outcomes.append(execute()))
    with attempt(folder, cell, never):
        assert execute(interrupted=lambda: True).status is Status.INTERRUPTED
        waiting.start()
        waiting.join(0.5)
        assert outcomes == []
    waiting.join(30)
    assert [outcome.status for outcome in outcomes] == [Status.DONE]


def test_a_process_that_overstayed_leaves_a_timeout_with_its_stack_and_checkpoint(planned):
    folder, cell, execute = planned
    (folder.workspace(cell) / HANG_TRACEBACK).write_text("Timeout (0:00:05)!\n  File mine.py, line 3 in forward\n")
    (folder.workspace(cell) / "checkpoint.pt").write_bytes(b"not read")
    assert execute().status is Status.TIMEOUT
    record = folder.read_record(cell.folder)
    assert "mine.py, line 3" in record["error"]["traceback"]
    assert (folder.cells / cell.folder / "checkpoint.pt").exists()
    assert execute(run="another").status is Status.DONE, "a second run goes on"
    assert (folder.cells / cell.folder / "log.txt").read_text().count("begins on") == 2, "the log goes on, too"


def test_a_folder_that_a_worker_does_not_see_is_an_error(planned, tmp_path):
    _, cell, _ = planned
    with pytest.raises(EstbenchError, match="workers need a file system that they all share"):
        task.execute(cell, RunConfig(tmp_path / "elsewhere", "cpu", 1), interrupted=never, on_step=print)


def test_threads_are_set_for_every_cell_and_recorded_and_given_back(tiny, tmp_path, plugin):
    import torch

    greedy = plugin(
        "greedy.py",
        """
        import torch
        from estbench.estimators import register
        from estbench.estimators.continuous.pathwise import Reparam

        @register("greedy")
        class Greedy(Reparam):
            def __init__(self, options=None):
                super().__init__(options)
                torch.set_num_threads(7)
        """,
    )
    estbench.run({**tiny, "estimators": ["greedy", "reparam"]}, out=tmp_path, plugins=[greedy], threads=2)
    folder = ResultsFolder(tmp_path)
    cells = {cell["estimator"]["label"]: cell["folder"] for cell in folder.read_plan()["cells"]}
    assert folder.read_record(cells["reparam"])["environment"]["threads"] == 2
    execution = folder.read_record(cells["reparam"])["execution"]
    assert execution == {"engine": "in-process", "slots": 1, "timeout": None, "run": execution["run"]}
    assert torch.get_num_threads() == 1


def test_a_lock_is_exclusive_and_leaves_nothing(tmp_path):
    path = tmp_path / "lock"
    with exclusive(path) as file:
        file.write("mine")
        file.flush()
        with pytest.raises(BlockingIOError), exclusive(path):
            pass
    assert not path.exists()
    path.write_text("left by the dead")
    with exclusive(path) as file:
        file.seek(0)
        assert file.read() == "left by the dead"


def test_locks_that_are_taken_and_removed_all_the_time_exclude_each_other(tmp_path):
    """The holder removes the file while another opens it: no two may ever be inside."""
    inside, worst, rounds = [0], [0], 300

    def take():
        for _ in range(rounds):
            try:
                with exclusive(tmp_path / "lock"):
                    inside[0] += 1
                    worst[0] = max(worst[0], inside[0])
                    os.sched_yield()
                    inside[0] -= 1
            except BlockingIOError:
                os.sched_yield()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst[0] == 1


def test_a_second_run_in_one_folder_is_refused_and_says_who_is_there(tiny, tmp_path):
    with (
        one_run(tmp_path),
        pytest.raises(EstbenchError, match=rf"another run is at work in .* \(process {os.getpid()} on .*\); wait"),
    ):
        estbench.run(tiny, out=tmp_path)
    assert estbench.run(tiny, out=tmp_path).cells["status"].tolist() == ["done"]
