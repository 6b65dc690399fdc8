"""Cells on worker processes and on a dask cluster: the same bytes, whatever is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stateful_layers
from faults import LONG, bits, logs, nothing_left, statuses, tries, wait_for

import estbench
from estbench import EstbenchError
from estbench.execution import Listener
from estbench.execution.task import TRIES
from estbench.store import ResultsFolder

psutil = pytest.importorskip("psutil")
Client = pytest.importorskip("distributed").Client
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

# Enough for torch and a small cell, and soon eaten up.
WORKER_MEMORY = "900MiB"
# Seconds that a cell of this size never takes, even where its worker has just been started.
SOON = 10
SETTINGS = {"DASK_DISTRIBUTED__WORKER__DAEMON": "False", "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}


class Cluster:
    """A scheduler and its workers, each a process of its own on loopback."""

    def __init__(self, folder: Path, environment: dict[str, str], *security: object) -> None:
        self.file = folder / "scheduler.json"
        self.security = security
        self.environment = {**environment, **SETTINGS, "GATE": str(folder / "gate")}
        self.scheduler = self._start("dask_scheduler", "--port", "0", "--scheduler-file", self.file)
        self.processes = [self.scheduler]

    def add_worker(self, *arguments: object, before: tuple[str, ...] = ()) -> None:
        """Start one more worker."""
        options = ("--scheduler-file", self.file, "--memory-limit", WORKER_MEMORY, "--death-timeout", 30)
        options = (*options, "--preload", "estbench.execution.worker")
        nthreads = () if "--nthreads" in arguments else ("--nthreads", 1)
        self.processes.append(self._start("dask_worker", *options, *nthreads, *arguments, before=before))

    def _start(self, program: str, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        loopback = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        arguments = (*loopback, *self.security, *arguments)
        command = [*before, sys.executable, "-m", f"distributed.cli.{program}", *map(str, arguments)]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def close(self) -> None:
        """End them all."""
        for process in self.processes:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                child.kill()
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, environment):
    """A scheduler and two workers."""
    made = Cluster(tmp_path_factory.mktemp("cluster"), environment)
    made.add_worker()
    made.add_worker()
    wait_for(made.file.exists)
    yield made
    made.close()


@pytest.fixture
def on_cluster(cluster, monkeypatch):
    """The scheduler file, once both workers are there; the gate of a cell that waits is shut."""
    gate = Path(cluster.environment["GATE"])
    gate.unlink(missing_ok=True)
    monkeypatch.setenv("GATE", str(gate))
    with Client(scheduler_file=str(cluster.file), set_as_default=False) as client:
        client.wait_for_workers(2, timeout=LONG)
    return str(cluster.file)


class At(Listener):
    """Does something once when a cell of an estimator has begun."""

    def __init__(self, estimator, action):
        self.estimator, self.action = estimator, action

    def cell_started(self, cell):
        if cell.estimator.label == self.estimator and self.action:
            action, self.action = self.action, None
            action(cell)


def process_of(path, label) -> int:
    """The process that is on a cell, from the cell's log."""
    (text,) = [text for name, text in logs(path).items() if name.startswith(label)]
    return int(re.findall(r"process (\d+)", text)[-1])


# Worker processes on this machine


def test_jobs_give_the_same_bytes_on_loopback_and_leave_no_process(tiny, tmp_path):
    tiny |= {"estimators": ["reparam", "reinforce[baseline=nvil]", "rloo[num_samples=3]"], "seeds": 2}
    tiny["throughput"]["rounds"] = 1
    heard, timed_beside = [], []

    class Watches(Listener):
        def cell_ended(self, cell, outcome, folder):
            assert folder.status(cell.folder) is outcome.status
            family = [psutil.Process(), *psutil.Process().children(recursive=True)]
            heard.extend(
                connection.laddr.ip
                for process in family
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            )

        def timing(self, labels):
            timed_beside.extend(" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True))

    estbench.run(tiny, out=tmp_path / "here")
    results = estbench.run(tiny, out=tmp_path / "jobs", jobs=2, threads=1, listener=Watches())
    assert bits(tmp_path / "jobs") == bits(tmp_path / "here")
    assert set(heard) == {"127.0.0.1"}
    assert not [command for command in timed_beside if "spawn_main" in command], "no worker beside the timing"
    assert len(results.throughput) == 3
    for cell in results.plan["cells"]:
        execution = ResultsFolder(tmp_path / "jobs").read_record(cell["folder"])["execution"]
        assert execution == {"engine": "local", "slots": 2, "timeout": None, "run": execution["run"]}
    assert set(tries(tmp_path / "jobs").values()) == {1}
    assert nothing_left(tmp_path / "jobs")


@pytest.mark.parametrize("kind", ["dropout", "batchnorm"])
def test_jobs_train_modules_that_move_to_the_same_bits(tiny, tmp_path, plugin, kind):
    file = plugin("moving_plugin.py", stateful_layers.PLUGIN)
    tiny["problems"] = [stateful_layers.problem(kind, side) for side in ("encoder", "decoder")]
    estbench.run(tiny, out=tmp_path / "here", plugins=[file])
    estbench.run(tiny, out=tmp_path / "jobs", plugins=[file], jobs=2, threads=1)
    assert bits(tmp_path / "jobs") == bits(tmp_path / "here")
    assert set(statuses(tmp_path / "jobs").values()) == {"done"}


SCRIPT = """
import sys
import warnings

warnings.simplefilter("error")
import estbench
from estbench.execution import Listener


class Looks(Listener):
    def cell_ended(self, *_):
        assert sys.modules["__main__"].__file__ == __file__


tiny = {tiny!r}
print(*estbench.run(tiny, out=sys.argv[1], jobs=2, listener=Looks()).cells["status"])
"""


def test_a_script_needs_no_guard_is_left_alone_and_warned_of_nothing(tiny, tmp_path, environment):
    script = tmp_path / "script.py"
    tiny["throughput"]["rounds"] = 1
    script.write_text(SCRIPT.format(tiny={**tiny, "seeds": 2}))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done done\n", "")


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_an_interrupt_stops_the_workers_and_leaves_cells_that_go_on(command, faults, gate, tiny, tmp_path, how):
    """Ctrl-C reaches all processes of a terminal at once; SIGTERM the run alone."""
    out = tmp_path / "out"
    process = command(
        "-e", "slow", "--seeds", 2, "--steps", 100_000, "--plugin", faults, "--out", out, "--jobs", 2, "--threads", 1
    )
    wait_for(lambda: tries(out) == {"slow-0": 1, "slow-1": 1})
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT) if how == "Ctrl-C" else process.terminate()
    _, errors = process.communicate(timeout=LONG)
    (line,) = errors.strip().splitlines()
    assert line.startswith("Error: interrupted; ")
    assert "run again (without --force)" in line
    assert process.returncode == 130
    assert statuses(out) == {"slow-0": "interrupted", "slow-1": "interrupted"}
    assert len([*out.glob("cells/*/checkpoint.pt")]) == 2
    assert not psutil.wait_procs(workers, timeout=LONG)[1], "a worker outlives its run"
    assert not [*out.rglob("*.attempts")]


def test_the_parent_is_killed(command, faults, gate, tiny, tmp_path):
    out, estimators = tmp_path / "out", ["reparam", "waits"]
    process = command("-e", "reparam", "-e", "waits", "--plugin", faults, "--out", out, "--jobs", 2, "--threads", 1)
    wait_for(lambda: tries(out).get("waits-0") and statuses(out)["reparam-0"] == "done")
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert not psutil.wait_procs(workers, timeout=LONG)[1], "a worker outlives its run"
    assert statuses(out) == {"reparam-0": "done", "waits-0": "missing"}
    gate.touch()
    estbench.run({**tiny, "estimators": estimators}, out=out, plugins=[faults], jobs=1, threads=1)
    estbench.run({**tiny, "estimators": estimators}, out=tmp_path / "here", plugins=[faults])
    assert bits(out) == bits(tmp_path / "here")
    assert tries(out) == {"reparam-0": 1, "waits-0": 2}
    assert nothing_left(out)


def test_a_laptop_that_sleeps(command, faults, gate, tiny, tmp_path):
    """All processes of the run stop at once, and go on at once."""
    out = tmp_path / "out"
    process = command("-e", "reparam", "-e", "waits", "--plugin", faults, "--out", out, "--jobs", 2, "--threads", 1)
    wait_for(lambda: tries(out).get("waits-0"))
    os.killpg(process.pid, signal.SIGSTOP)
    gate.touch()
    time.sleep(2)
    os.killpg(process.pid, signal.SIGCONT)
    assert process.wait(LONG) == 0
    assert set(tries(out).values()) == {1}
    estbench.run({**tiny, "estimators": ["reparam", "waits"]}, out=tmp_path / "here", plugins=[faults])
    assert bits(out) == bits(tmp_path / "here")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="takes root to make a small file system")
def test_a_full_disk_and_one_that_becomes_read_only(command, tiny, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "none", str(disk)], check=False)
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        arguments = ("--seeds", 12, "--out", disk / "out", "--jobs", 2)
        full = command(*arguments)
        _, errors = full.communicate(timeout=LONG)
        assert full.returncode == 1
        assert errors.startswith("Error: cannot write")
        assert "No space left on device; finished runs are saved, run again to resume" in errors
        assert errors.count("\n") == 1
        finished = list(statuses(disk / "out").values()).count("done")
        assert 0 < finished < 12
        assert len(bits(disk / "out")) == finished

        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        frozen = command(*arguments)
        _, errors = frozen.communicate(timeout=LONG)
        assert (frozen.returncode, errors.count("\n")) == (1, 1)
        assert "Read-only file system" in errors
        assert list(statuses(disk / "out").values()).count("done") == finished

        subprocess.run(["mount", "-o", "remount,rw,size=10M", str(disk)], check=True)
        estbench.run({**tiny, "seeds": 12}, out=disk / "out")
        estbench.run({**tiny, "seeds": 12}, out=tmp_path / "here")
        assert bits(disk / "out") == bits(tmp_path / "here")
        assert nothing_left(disk / "out")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# A cluster that runs already


def test_bad_cells_fail_alone(on_cluster, faults, tiny, tmp_path):
    """Crashes, exceptions and hunger among good cells: each ends as it should, and the good ones begin once."""
    good = ["reparam", "stl", "rloo[num_samples=3]", "loads"]
    tiny |= {"estimators": [*good, "segfaults", "raises", "eats"]}
    estbench.run(tiny, out=tmp_path / "out", plugins=[faults], cluster=on_cluster, threads=1)
    assert statuses(tmp_path / "out") == {
        **{f"{name}-0": "done" for name in good},
        "segfaults-0": "failed",
        "raises-0": "failed",
        "eats-0": "failed",
    }
    begun = tries(tmp_path / "out")
    assert begun["raises-0"] == 1
    assert begun["segfaults-0"] == begun["eats-0"] == TRIES + 1
    assert {begun[f"{name}-0"] for name in good} == {1}, "an innocent cell was hit"
    (crash,) = [text for name, text in logs(tmp_path / "out").items() if name.startswith("segfaults")]
    assert "Segmentation fault" in crash
    assert "in forward" in crash
    assert nothing_left(tmp_path / "out")
    tiny["estimators"] = good
    estbench.run(tiny, out=tmp_path / "here", plugins=[faults])
    here, there = bits(tmp_path / "here"), bits(tmp_path / "out")
    assert {name: there[name] for name in here} == here


def test_a_cell_that_hangs_is_ended_alone(on_cluster, faults, tiny, tmp_path):
    tiny |= {"estimators": ["holds-the-gil", "reparam"]}
    results = estbench.run(
        tiny, out=tmp_path / "out", plugins=[faults], cluster=on_cluster, threads=1, timeout=SOON, jobs=2
    )
    assert statuses(tmp_path / "out") == {"holds-the-gil-0": "timeout", "reparam-0": "done"}
    (hung,) = results.cells.query("status == 'timeout'").itertuples()
    assert hung.stop_reason == "hung past its timeout; its process was ended"
    assert tries(tmp_path / "out") == {"holds-the-gil-0": 2, "reparam-0": 1}
    assert nothing_left(tmp_path / "out")


def test_a_worker_is_killed(on_cluster, faults, tiny, tmp_path):
    out, gate = tmp_path / "out", Path(os.environ["GATE"])
    tiny |= {"estimators": ["reparam", "waits", "stl"], "seeds": 2}

    def kill(cell):
        os.kill(process_of(out, cell.folder), signal.SIGKILL)
        gate.touch()

    estbench.run(tiny, out=out, plugins=[faults], cluster=on_cluster, threads=1, listener=At("waits", kill))
    assert set(statuses(out).values()) == {"done"}
    begun = sorted(tries(out).values())
    assert begun == [1, 1, 1, 1, 1, 2]
    estbench.run(tiny, out=tmp_path / "here", plugins=[faults])
    assert bits(out) == bits(tmp_path / "here")
    assert nothing_left(out)


def test_a_worker_that_is_told_to_end_leaves_a_checkpoint_and_counts_as_no_death(on_cluster, faults, tiny, tmp_path):
    """More often than a cell may die: each time the next worker goes on from the checkpoint."""
    out = tmp_path / "out"
    tiny |= {"estimators": ["slow"], "seeds": 1}
    tiny["training"]["steps"] = 400
    ended, steps = [], []

    class Ends(Listener):
        def stepped(self, cell, step):
            steps.append(step)
            process = process_of(out, cell.folder)
            if len(ended) <= TRIES and process not in ended:
                ended.append(process)
                os.kill(process, signal.SIGTERM)

    estbench.run(tiny, out=out, plugins=[faults], cluster=on_cluster, threads=1, listener=Ends())
    assert len(ended) == TRIES + 1
    assert steps == sorted(steps), "it began again"
    assert statuses(out) == {"slow-0": "done"}
    (log,) = logs(out).values()
    assert log.count("interrupted") == TRIES + 1
    assert {line.rsplit("; ", 1)[1] for line in log.splitlines() if "begins on" in line} == {"0 earlier tries died"}
    estbench.run(tiny, out=tmp_path / "here", plugins=[faults])
    assert bits(out) == bits(tmp_path / "here")
    assert nothing_left(out)


def test_a_cell_that_exits_fails_alone_on_workers(faults, tiny, tmp_path):
    tiny |= {"estimators": ["exits", "reparam", "stl"]}
    estbench.run(tiny, out=tmp_path / "out", plugins=[faults], jobs=2, threads=1)
    assert statuses(tmp_path / "out") == {"exits-0": "failed", "reparam-0": "done", "stl-0": "done"}
    assert tries(tmp_path / "out") == {"exits-0": 1, "reparam-0": 1, "stl-0": 1}
    (record,) = (tmp_path / "out" / "cells").glob("exits-*/cell.json")
    assert json.loads(record.read_text())["stop_reason"].startswith("SystemExit: by itself")
    assert nothing_left(tmp_path / "out")


def test_a_pool_without_workers_ends_with_a_clear_error(faults, gate, tiny, tmp_path, monkeypatch):
    """Its workers are gone and none comes back; finished cells are whole, and the next run goes on."""
    out = tmp_path / "out"
    tiny |= {"estimators": ["reparam", "waits"]}
    engines = pytest.importorskip("estbench.execution.engines")
    monkeypatch.setattr(engines, "LOCAL_PATIENCE_SECONDS", float(SOON))
    begun = []

    async def not_again(_nanny):
        return "failed"

    def end(cell):
        begun.append(cell)
        monkeypatch.setattr(engines.FastClosingNanny, "instantiate", not_again)
        os.kill(process_of(out, cell.folder), signal.SIGKILL)

    with pytest.raises(ConnectionError, match=r"no worker is left.*run again"):
        estbench.run(tiny, out=out, plugins=[faults], jobs=1, threads=1, listener=At("waits", end))
    assert begun
    monkeypatch.undo()
    monkeypatch.setenv("GATE", str(gate))
    gate.touch()
    estbench.run(tiny, out=out, plugins=[faults])
    assert set(statuses(out).values()) == {"done"}
    assert nothing_left(out)


@pytest.mark.skipif(not shutil.which("faketime"), reason="takes faketime to put a clock forward")
def test_clocks_that_are_days_apart(environment, tiny, tmp_path):
    tiny |= {"seeds": 8}
    tiny["training"]["steps"] = 100
    cluster = Cluster(tmp_path, {**environment, "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
    cluster.add_worker()
    cluster.add_worker(before=("faketime", "-f", "+2d"))
    wait_for(cluster.file.exists)
    try:
        with Client(scheduler_file=str(cluster.file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=LONG)
        results = estbench.run(tiny, out=tmp_path / "out", cluster=str(cluster.file), threads=1)
    finally:
        cluster.close()
    assert set(statuses(tmp_path / "out").values()) == {"done"}
    days = {ResultsFolder(results.path).read_record(cell["folder"])["started"][:10] for cell in results.plan["cells"]}
    assert len(days) == 2, "both workers took part"
    estbench.run(tiny, out=tmp_path / "here")
    assert bits(tmp_path / "out") == bits(tmp_path / "here")


def test_the_scheduler_is_killed(environment, faults, tiny, tmp_path, monkeypatch):
    out, gate = tmp_path / "out", tmp_path / "gate"
    tiny |= {"estimators": ["reparam", "waits"]}
    cluster = Cluster(tmp_path, environment)
    cluster.add_worker()
    wait_for(cluster.file.exists)
    try:
        with pytest.raises(ConnectionError, match="lost the dask scheduler; finished runs are saved, run again"):
            estbench.run(
                tiny,
                out=out,
                plugins=[faults],
                cluster=str(cluster.file),
                threads=1,
                listener=At("waits", lambda _: cluster.scheduler.kill()),
            )
    finally:
        cluster.close()
    assert statuses(out)["waits-0"] == "missing"
    gate.touch()
    monkeypatch.setenv("GATE", str(gate))
    estbench.run(tiny, out=out, plugins=[faults])
    estbench.run(tiny, out=tmp_path / "here", plugins=[faults])
    assert bits(out) == bits(tmp_path / "here")
    assert nothing_left(out)


def test_a_cluster_that_cannot_do_the_work_is_refused(environment, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("estbench.execution.engines.SECONDS_TO_FIND_A_CLUSTER", 1.0)
    with pytest.raises(EstbenchError, match=r"no scheduler file 'none\.json'; --cluster takes one, or an address"):
        estbench.run(tiny, out=tmp_path / "out", cluster="none.json")
    with pytest.raises(EstbenchError, match=r"no dask scheduler answers at 'tcp://127\.0\.0\.1:9'"):
        estbench.run(tiny, out=tmp_path / "out", cluster="tcp://127.0.0.1:9")
    cluster = Cluster(tmp_path, environment)
    wait_for(cluster.file.exists)
    try:
        with pytest.raises(EstbenchError, match="has no workers; start some with --nthreads 1"):
            estbench.run(tiny, out=tmp_path / "out", cluster=str(cluster.file))
        monkeypatch.setattr("estbench.execution.engines.SECONDS_TO_FIND_A_CLUSTER", LONG)
        cluster.add_worker("--nthreads", 2)
        with pytest.raises(EstbenchError, match="have several threads, and runs would share torch's random state"):
            estbench.run(tiny, out=tmp_path / "out", cluster=str(cluster.file))
    finally:
        cluster.close()


@pytest.mark.skipif(not shutil.which("openssl"), reason="takes openssl to make a certificate")
def test_a_cluster_with_tls(command, environment, tmp_path):
    """As the README says; whoever has no certificate is not let in."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost")
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    security = ("--protocol", "tls", "--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key)
    cluster = Cluster(tmp_path, environment, *security)
    cluster.add_worker()
    wait_for(cluster.file.exists)
    address = json.loads(cluster.file.read_text())["address"]
    prefix = "DASK_DISTRIBUTED__COMM__"
    settings = {
        f"{prefix}REQUIRE_ENCRYPTION": "True",
        f"{prefix}TLS__CA_FILE": str(certificate),
        f"{prefix}TLS__CLIENT__CERT": str(certificate),
        f"{prefix}TLS__CLIENT__KEY": str(key),
    }
    try:
        assert address.startswith("tls://127.0.0.1:")
        stranger = command("--out", tmp_path / "out", "--cluster", address.replace("tls", "tcp"))
        member = command("--out", tmp_path / "out2", "--cluster", address, **settings)
        assert stranger.wait(LONG) == 2
        assert member.wait(LONG) == 0
    finally:
        cluster.close()
    assert statuses(tmp_path / "out2") == {"reparam-0": "done"}
