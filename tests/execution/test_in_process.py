"""Faults of a run without workers, each with a real process that really gets hurt."""

from __future__ import annotations

import signal
import time

import pytest
from faults import LONG, bits, nothing_left, statuses, tries, wait_for

import estbench
from estbench.execution.task import TRIES
from estbench.store import ResultsFolder


@pytest.mark.slow
def test_a_cell_that_takes_too_long_stops_alone_and_can_go_on(tiny, tmp_path, faults):
    tiny |= {"estimators": ["slow", "reparam"], "training": {"steps": 300, "batch_size": 16}}
    estbench.run(tiny, out=tmp_path / "whole", plugins=[faults])
    results = estbench.run(tiny, out=tmp_path / "short", plugins=[faults], timeout=3)
    assert statuses(tmp_path / "short") == {"slow-0": "timeout", "reparam-0": "done"}
    (slow,) = results.cells.query("estimator == 'slow'").itertuples()
    assert 0 < slow.step < 300
    assert slow.stop_reason == f"stopped at step {slow.step} after 3 s"
    estbench.run(tiny, out=tmp_path / "short", plugins=[faults], timeout=LONG)
    assert statuses(tmp_path / "short") == {"slow-0": "done", "reparam-0": "done"}
    assert bits(tmp_path / "short") == bits(tmp_path / "whole")
    assert nothing_left(tmp_path / "short")


@pytest.mark.cluster
@pytest.mark.parametrize("fault", ["hangs", "holds-the-gil"])
def test_a_cell_that_hangs_ends_the_run_and_the_next_one_goes_on(command, faults, tmp_path, fault):
    """Even where native code holds the GIL, and Python itself could do nothing."""
    out = tmp_path / "out"
    arguments = ("-e", fault, "-e", "reparam", "--out", out, "--plugin", faults)
    first = command(*arguments, "--timeout", 1)
    _, errors = first.communicate(timeout=LONG)
    assert first.returncode == 1
    if fault == "hangs":
        assert errors.startswith("Error: a cell exceeded its timeout of 1 s")
        assert errors.count("\n") == 1
    assert statuses(out) == {f"{fault}-0": "missing", "reparam-0": "missing"}
    second = command(*arguments)
    said, _ = second.communicate(timeout=LONG)
    assert second.returncode == 1, "some cell failed"
    assert f"timeout [1/2] {fault} on vae, seed 0" in said
    assert statuses(out) == {f"{fault}-0": "timeout", "reparam-0": "done"}
    (cell,) = [cell for cell in ResultsFolder(out).read_plan()["cells"] if cell["estimator"]["label"] == fault]
    assert "in forward" in ResultsFolder(out).read_record(cell["folder"])["error"]["traceback"]
    assert nothing_left(out)


@pytest.mark.cluster
def test_a_cell_that_segfaults_ends_the_run_until_its_tries_are_used_up(command, faults, tmp_path):
    arguments = ("-e", "segfaults", "-e", "reparam", "--out", tmp_path / "out", "--plugin", faults)
    for number in range(TRIES):
        assert command(*arguments).wait(LONG) == -signal.SIGSEGV
        assert tries(tmp_path / "out") == {"segfaults-0": number + 1, "reparam-0": 0}
    last = command(*arguments)
    said, errors = last.communicate(timeout=LONG)
    assert last.returncode == 1
    assert f"its process died in each of {TRIES} tries" in errors
    assert "done [2/2] reparam" in said
    assert statuses(tmp_path / "out") == {"segfaults-0": "failed", "reparam-0": "done"}
    assert nothing_left(tmp_path / "out")


@pytest.mark.cluster
def test_two_runs_at_once_and_a_run_that_is_killed(command, faults, gate, tiny_file, tmp_path):
    """The second is refused and harms nothing; once the first is killed, it finishes what is missing."""
    out, arguments = tmp_path / "out", ("-e", "reparam", "-e", "waits", "--plugin", faults)
    first = command(*arguments, "--out", out)
    wait_for(lambda: tries(out).get("waits-0"))
    second = command(*arguments, "--out", out)
    said, errors = second.communicate(timeout=LONG)
    assert (second.returncode, said) == (2, "")
    assert f"another run is at work in '{out}' (process {first.pid} on " in errors
    assert errors.count("\n") == 1
    first.kill()
    first.wait()
    assert statuses(out) == {"reparam-0": "done", "waits-0": "missing"}
    record = next(out.glob("cells/reparam-*/cell.json")).stat().st_mtime_ns
    gate.touch()
    whole = {"estimators": ["reparam", "waits"]}
    estbench.run(changed(tiny_file, whole), out=out, plugins=[faults])
    assert statuses(out) == {"reparam-0": "done", "waits-0": "done"}
    assert next(out.glob("cells/reparam-*/cell.json")).stat().st_mtime_ns == record
    estbench.run(changed(tiny_file, whole), out=tmp_path / "whole", plugins=[faults])
    assert bits(out) == bits(tmp_path / "whole")
    assert nothing_left(out)


@pytest.mark.cluster
def test_a_process_that_is_suspended_goes_on(command, faults, gate, tiny_file, tmp_path):
    out = tmp_path / "out"
    process = command("-e", "waits", "--plugin", faults, "--out", out, "--timeout", 60)
    wait_for(lambda: tries(out).get("waits-0"))
    process.send_signal(signal.SIGSTOP)
    gate.touch()
    time.sleep(1)
    assert statuses(out) == {"waits-0": "missing"}
    process.send_signal(signal.SIGCONT)
    assert process.wait(LONG) == 0
    estbench.run(changed(tiny_file, {"estimators": ["waits"]}), out=tmp_path / "whole", plugins=[faults])
    assert bits(out) == bits(tmp_path / "whole")


def test_a_record_that_was_cut_short_is_computed_again_and_nothing_else(tiny, tmp_path):
    tiny |= {"estimators": ["reparam", "stl"]}
    estbench.run(tiny, out=tmp_path / "whole")
    whole = bits(tmp_path / "whole")
    cut, kept = sorted((tmp_path / "whole").glob("cells/*/cell.json"))
    for length in (0, 1, cut.stat().st_size // 2, cut.stat().st_size - 2):
        cut.write_bytes(cut.read_bytes()[:length])
        written = kept.stat().st_mtime_ns
        estbench.run(tiny, out=tmp_path / "whole")
        assert bits(tmp_path / "whole") == whole
        assert kept.stat().st_mtime_ns == written
    cut.unlink()
    estbench.run(tiny, out=tmp_path / "whole")
    assert bits(tmp_path / "whole") == whole


def test_what_a_killed_writer_left_is_no_record(tiny, tmp_path):
    """A record is written beside the cell's place and renamed into it: half of one is never there."""
    estbench.run(tiny, out=tmp_path)
    whole = bits(tmp_path)
    (final,) = tmp_path.glob("cells/*")
    workspace = final.with_name(f".{final.name}.partial")
    final.rename(workspace)
    (workspace / "cell.json").rename(workspace / ".cell.json.00112233aabbccdd.tmp")
    assert statuses(tmp_path) == {"reparam-0": "missing"}
    assert estbench.run(tiny, out=tmp_path).cells["status"].tolist() == ["done"]
    assert bits(tmp_path) == whole
    assert nothing_left(tmp_path)


def changed(tiny_file, overrides):
    from estbench.experiment import read_experiment

    return read_experiment(tiny_file, overrides)
