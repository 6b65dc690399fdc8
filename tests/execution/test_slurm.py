"""SLURM for real: its daemons on loopback, two jobs, one of them cancelled."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from faults import LONG, bits, logs, nothing_left, statuses, tries, wait_for

import estbench
from estbench import EstbenchError
from estbench.execution import Listener
from estbench.execution.slurm import PATIENCE_SECONDS, Silence, Slurm, read_slurm
from estbench.store import ResultsFolder

psutil = pytest.importorskip("psutil")
pytest.importorskip("dask_jobqueue")
Client, Scheduler, SpecCluster = (
    getattr(pytest.importorskip("distributed"), name) for name in ("Client", "Scheduler", "SpecCluster")
)

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
DAEMONS = ("munged", "slurmctld", "slurmd")
FILE = """
jobs = 2
queue = "debug"
memory = "1500MB"
walltime = "00:20:00"
prologue = ["export PYTHONPATH={path} OMP_NUM_THREADS=1"]
"""


@pytest.fixture
def slurm_file(tmp_path, environment) -> Path:
    """What a user writes."""
    path = tmp_path / "slurm.toml"
    path.write_text(FILE.format(path=environment["PYTHONPATH"]), encoding="utf-8")
    return path


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A controller and a node, both on loopback, and nothing left of them afterwards."""
    folder, host = tmp_path / "slurm", os.uname().nodename.split(".")[0]
    for name in ("state", "spool", "log", "run"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=host), encoding="utf-8")
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    run = folder / "run"
    munge = ("--key-file", folder / "munge.key", "--socket", run / "munge.socket", "--pid-file", run / "munged.pid")
    munge = (*munge, "--log-file", folder / "log" / "munged.log", "--seed-file", run / "seed")
    for command in (("munged", "--force", *munge), ("slurmctld", "-c", "-i"), ("slurmd",)):
        subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=LONG)
    wait_for(lambda: "idle" in said("sinfo", "-h", "-o", "%t"))
    yield
    said("scancel", "--user=root")
    for name in ("slurmd", "slurmctld", "munged"):
        os.kill(int((run / f"{name}.pid").read_text()), signal.SIGTERM)
    wait_for(lambda: not [*run.glob("*.pid")])


def said(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONG).stdout


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, DAEMONS)), reason="takes root and Debian's slurm-wlm and munge"
)
def test_two_jobs_one_of_them_cancelled(slurm, slurm_file, faults, gate, tiny, tmp_path):
    """The cell of the cancelled job runs again in another, and nothing differs from a run without SLURM."""
    out = tmp_path / "out"
    tiny |= {"estimators": ["waits", "reparam"], "seeds": 2}
    jobs = []

    class Cancels(Listener):
        def cell_started(self, cell):
            if cell.estimator.label == "waits" and not jobs:
                (text,) = [text for name, text in logs(out).items() if name == cell.folder]
                worker = psutil.Process(int(re.findall(r"process (\d+)", text)[-1]))
                jobs.append(worker.environ()["SLURM_JOB_ID"])
                listening = {c.laddr.ip for c in worker.net_connections("inet") if c.status == psutil.CONN_LISTEN}
                assert listening == {"127.0.0.1"}
                subprocess.run(["scancel", jobs[0]], check=True)
                gate.touch()

    estbench.run(tiny, out=out, plugins=[faults], slurm=slurm_file, listener=Cancels())
    assert set(statuses(out).values()) == {"done"}
    assert sorted(tries(out).values()) == [1, 1, 1, 2]
    folder = ResultsFolder(out)
    for cell in folder.read_plan()["cells"]:
        assert folder.read_record(cell["folder"])["execution"] == {"engine": "slurm", "slots": 2, "timeout": None}
    estbench.run(tiny, out=tmp_path / "here", plugins=[faults])
    assert bits(out) == bits(tmp_path / "here")
    assert nothing_left(out)
    wait_for(lambda: not said("squeue", "-h"))


def test_jobs_keep_the_memory_that_they_will_ask_for_again():
    """Both thresholds: a process that sets the first alone gives back every large tensor as dask's default does."""
    prologue = Slurm(jobs=1).options(1, Path("logs"))["job_script_prologue"]
    assert "export MALLOC_TRIM_THRESHOLD_=268435456" in prologue
    assert "export MALLOC_MMAP_THRESHOLD_=33554432" in prologue


def test_a_run_without_workers_says_where_to_look_and_once(tmp_path):
    silence = Silence(tmp_path, started=100.0)
    assert silence.words(0, 100.0 + PATIENCE_SECONDS - 1) is None
    assert f"(see squeue), or leave their reason in '{tmp_path}'" in silence.words(0, 200.0)
    assert silence.words(0, 201.0) is None
    (tmp_path / "dask-worker-7.err").write_text("slurm: prologue\nmodule: command not found\n\n")
    (tmp_path / "dask-worker-8.err").write_text("")
    said = silence.words(0, 202.0)
    assert said.endswith("dask-worker-7.err', which ends in: module: command not found")
    assert silence.words(0, 203.0) is None
    assert silence.words(1, 300.0) is None
    assert silence.words(0, 300.0 + PATIENCE_SECONDS - 1) is None, "patience begins anew with the last worker"
    assert silence.words(0, 300.0 + PATIENCE_SECONDS) == said


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_jobs_that_cannot_start_are_told_of_while_the_run_waits(gate, faults, tiny, tmp_path, monkeypatch):
    """A cluster that never gets a worker, in the place of SLURM's; Ctrl-C ends it as it ends any run."""
    engines = pytest.importorskip("estbench.execution.engines")
    monkeypatch.setattr("estbench.execution.slurm.PATIENCE_SECONDS", 0)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "1.err").write_text("exec: no such file\n")

    @contextlib.contextmanager
    def without_workers(_settings, _logs, device, threads):
        with (
            SpecCluster(workers={}, scheduler={"cls": Scheduler, "options": engines.ON_LOOPBACK}) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield engines.Engine("slurm", client, lambda: 1, device, 1, logs)

    monkeypatch.setattr(engines, "slurm", without_workers)
    told = []

    class Waits(Listener):
        def noted(self, remark):
            told.append(remark)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        estbench.run(tiny, out=tmp_path / "out", slurm=Slurm(jobs=1), listener=Waits())
    assert told[0].endswith("1.err', which ends in: exec: no such file")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "slurm.toml: jobs: is required"),
        ("jobs = 0", "slurm.toml: jobs: input should be greater than or equal to 1, got 0"),
        ("jobs = 2\nqueu = 'gpu'", "slurm.toml: unknown key 'queu'; did you mean 'queue'?"),
        ("jobs = ", "is not valid TOML"),
    ],
)
def test_a_mistake_in_a_slurm_file(tmp_path, text, complaint):
    path = tmp_path / "slurm.toml"
    path.write_text(text)
    with pytest.raises(EstbenchError, match=re.escape(complaint)):
        read_slurm(path)
