"""SLURM for real: its daemons on loopback, two jobs, one of them cancelled."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from faults import LONG, bits, logs, nothing_left, statuses, tries, wait_for

import estbench
from estbench import EstbenchError
from estbench.cli import _exit_code
from estbench.execution import Listener
from estbench.execution.slurm import PATIENCE_SECONDS, PROGRAMS, MissingWorkerNotice, Slurm, read_slurm
from estbench.guarded import GuardedPath
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
        execution = folder.read_record(cell["folder"])["execution"]
        assert execution == {"engine": "slurm", "slots": 2, "timeout": None, "run": execution["run"]}
    estbench.run(tiny, out=tmp_path / "here", plugins=[faults])
    assert bits(out) == bits(tmp_path / "here")
    assert nothing_left(out)
    wait_for(lambda: not said("squeue", "-h"))


def test_jobs_keep_the_memory_that_they_will_ask_for_again():
    """Both thresholds: a process that sets the first alone gives back every large tensor as dask's default does."""
    prologue = Slurm(jobs=1).options(1, GuardedPath("logs"))["job_script_prologue"]
    assert "export MALLOC_TRIM_THRESHOLD_=268435456" in prologue
    assert "export MALLOC_MMAP_THRESHOLD_=33554432" in prologue


def test_a_run_without_workers_says_where_to_look_and_once(tmp_path):
    silence = MissingWorkerNotice(GuardedPath(tmp_path), started=100.0)
    assert silence.message(0, 100.0 + PATIENCE_SECONDS - 1) is None
    assert f"(see squeue), or their logs are in '{tmp_path}'" in silence.message(0, 200.0)
    assert silence.message(0, 201.0) is None
    (tmp_path / "dask-worker-7.err").write_text("slurm: prologue\nmodule: command not found\n\n")
    (tmp_path / "dask-worker-8.err").write_text("")
    said = silence.message(0, 202.0)
    assert said.endswith("dask-worker-7.err', which ends in: module: command not found")
    assert silence.message(0, 203.0) is None
    assert silence.message(1, 300.0) is None
    assert silence.message(0, 300.0 + PATIENCE_SECONDS - 1) is None, "patience begins anew with the last worker"
    assert silence.message(0, 300.0 + PATIENCE_SECONDS) == said


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
            yield engines.Engine("slurm", client, lambda: 1, device, 1, GuardedPath(logs))

    monkeypatch.setattr(engines, "slurm", without_workers)
    monkeypatch.setattr(Slurm, "check_machine", lambda *_: None)
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
        (f"jobs = {'9' * 5000}", "is not valid TOML"),
        (f"jobs = {'9' * 4000}", "slurm.toml: jobs: "),
        (f"jobs = 1\nthreads = {'9' * 400}", "slurm.toml: threads: "),
        ("jobs = inf", "slurm.toml: jobs: "),
    ],
)
def test_a_mistake_in_a_slurm_file(tmp_path, text, complaint):
    path = tmp_path / "slurm.toml"
    path.write_text(text)
    with pytest.raises(EstbenchError, match=re.escape(complaint)) as raised:
        read_slurm(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1200


REFUSED = {
    "memory": ["lots", "4 GB --mem=0", "4GB\n#SBATCH --x", "0GB", "-4GB", "4", "4GB;ls", "٤GB"],
    "walltime": ["1h", "01:00:00 --uid=0", "01:00:00\nls", "1:2:3:4", "-1", "", "UNLIMITED;ls"],
    "queue": ["a b", "gpu\n#SBATCH --uid=0", "--wrap=ls", "-x", "$(ls)", "`ls`", "gpu#", "'gpu'", "gpu\x85", "", "a\0"],
    "account": ["a b", "me\r#SBATCH -x", "-p", "me;ls", "me\\"],
    "interface": ["ib0; ls", "ib0 --preload x.py", "--preload", "$(ls)", "ib0\nls", "", "ib0\u2028", "a" * 99],
    "directives": [
        *("gres=gpu:1", "--gres=gpu:1\n#SBATCH --uid=0", "--gres=gpu:1 --uid=0", "--gres gpu:1 --uid", "", "#"),
        *("-p gpu -A me", '--comment="open', "--a b c", "--x=1\x0b#SBATCH --y", "-- x", "-Hk", "--gres=gpu:1 # one"),
    ],
    "prologue": [
        "module load cuda\nrm -r x",
        "#SBATCH --uid=0",
        "  #SBATCH -x",
        "",
        " ",
        "a\rb",
        "a\x1b[2J",
        "a\u2029b",
    ],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in REFUSED.items() for value in values])
def test_no_value_becomes_another_option_or_line(tmp_path, key, value):
    path = tmp_path / "slurm.toml"
    path.write_text(f"jobs = 1\n{key} = {json.dumps([value] if key in {'directives', 'prologue'} else value)}\n")
    with pytest.raises(EstbenchError, match=key) as raised:
        read_slurm(path)
    assert str(raised.value).isprintable()


ACCEPTED = {
    "memory": ["4GB", "1500MB", "1.5 TiB", "8GiB"],
    "walltime": ["30", "30:00", "04:00:00", "2-0", "2-12:30:00", "UNLIMITED"],
    "queue": ["gpu", "gpu,cpu", "part_1.long"],
    "account": ["me", "group/me", "a+b"],
    "interface": ["ib0", "eth0.100", "bond0:1", "enp3s0f0"],
    "directives": ["--gres=gpu:1", "--exclusive", "-N1", "-C a100|h100", '--comment="two words"', "--nice=-5"],
    "prologue": ["module load cuda", "export A='b c'; ulimit -s unlimited", "source ~/é.sh && x | y  # why"],
}


def options_of(script: str) -> dict[str, str]:
    """What ``sbatch`` reads of a script, as its manual says: quotes, and the backslash within them too."""
    found = {}
    for line in script.splitlines():
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH"):
            words = re.findall(r'(?:[^\s"\\]|\\.|"(?:[^"\\]|\\.)*")+', line[7:])
            words = [re.sub(r'\\(.)|"', lambda sign: sign[1] or "", word) for word in words]
            assert words[0].startswith("-")
            assert len(words) <= 2
            name, _, value = words[0].partition("=")
            found[name] = words[1] if len(words) > 1 else value
    return found


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ACCEPTED.items() for value in values])
def test_what_sbatch_knows_is_taken(key, value):
    several = key in {"directives", "prologue"}
    plain = options_of(script_of(Slurm(jobs=1)))
    script = script_of(Slurm(jobs=1, **{key: (value,) if several else value}))
    added = options_of(script).keys() - plain.keys()
    assert len(added) == (key in {"queue", "account", "directives"})
    assert (value in script) or key in {"memory", "directives"}


def test_values_with_spaces_are_one_word_of_sbatch():
    script = script_of(Slurm(jobs=1, directives=('--comment="two # words"', "-C 'a&b|c'")))
    assert options_of(script)["--comment"] == "two # words"
    assert options_of(script)["-C"] == "a&b|c"


@pytest.mark.parametrize("name", ["plain", "two words", "it's", 'a"b', "100%j", "a#b", "$(ls)", "é"])
def test_logs_in_a_folder_of_any_name(tmp_path, name):
    folder = GuardedPath(tmp_path, name)
    script = script_of(Slurm(jobs=1), folder)
    expected = f"{tmp_path}/{name.replace('%', '%%')}/estbench-%j"
    assert options_of(script)["--error"] == f"{expected}.err"
    assert options_of(script)["--output"] == f"{expected}.out"
    assert not [*tmp_path.iterdir()]


def test_a_python_in_a_folder_with_spaces(monkeypatch):
    monkeypatch.setattr("sys.executable", "/home/my home/$x/python")
    command = script_of(Slurm(jobs=1)).strip().splitlines()[-1]
    assert shlex.split(command)[0] == "/home/my home/$x/python"


def script_of(settings: Slurm, logs: GuardedPath = GuardedPath("logs")) -> str:  # noqa: B008
    job = pytest.importorskip("dask_jobqueue.slurm").SLURMJob
    options = settings.options(2, logs)
    del options["scheduler_options"]
    return job(scheduler="tcp://127.0.0.1:1", name="0", **options).job_script()


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder with SLURM's programs, the only one on PATH; they take no job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize(
    ("without", "change", "out", "complaint"),
    [
        (["sbatch", "scancel"], "", "out", "sbatch and scancel"),
        (["sbatch"], "", "out", "--slurm needs sbatch"),
        (["scancel"], "", "out", "--slurm needs scancel"),
        ([], "interface = 'ib0'", "out", "no network interface 'ib0'"),
        ([], "interface = 'en9.77'", "out", "no network interface 'en9.77'"),
        ([], "", "a\nb", "choose another --out"),
        ([], "", "a\\b", "choose another --out"),
        ([], "queue = 'a b'", "out", "queue"),
    ],
)
def test_what_can_start_no_job_is_refused_at_once(
    programs, tmp_path, tiny_file, capfd, without, change, out, complaint
):
    for name in without:
        (programs / name).unlink()
    file = tmp_path / "slurm.toml"
    file.write_text(f"jobs = 1\n{change}\n")
    assert _exit_code(["run", str(tiny_file), "--out", str(tmp_path / out), "--slurm", str(file)]) == 2
    errors = capfd.readouterr().err
    assert complaint in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / out).exists()


def test_jobs_that_sbatch_refuses_end_the_run_with_its_reason(programs, tmp_path, tiny_file, capfd):
    file = tmp_path / "slurm.toml"
    file.write_text("jobs = 1\nqueue = 'none'\n")
    assert _exit_code(["run", str(tiny_file), "--out", str(tmp_path / "out"), "--slurm", str(file)]) == 1
    errors = capfd.readouterr().err.strip().splitlines()[-1]
    assert "invalid partition" in errors
    assert "SLURM file" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "cause", [OSError(24, "Too many open files"), ValueError("no IPv4"), RuntimeError("a\nb"), KeyError("x"), None]
)
@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_a_cluster_that_fails_to_start_is_one_line(programs, monkeypatch, tmp_path, tiny_file, capfd, engine, cause):
    engines = pytest.importorskip("estbench.execution.engines")

    def fails(*_, **__):
        raise RuntimeError("Cluster failed to start") from cause

    monkeypatch.setattr(engines, "SpecCluster", fails)
    with engines._handlers_kept():
        import dask_jobqueue
    monkeypatch.setattr(dask_jobqueue.SLURMCluster, "__init__", fails)
    file = tmp_path / "slurm.toml"
    file.write_text("jobs = 1\n")
    how = ["--slurm", str(file)] if engine == "slurm" else ["--jobs", "2"]
    assert _exit_code(["run", str(tiny_file), "--out", str(tmp_path / "out"), *how]) == 1
    errors = capfd.readouterr().err
    assert errors.startswith("Error: cannot start")
    assert errors.count("\n") == 1
    assert (type(cause).__name__ if cause else "failed to start") in errors
