"""The SLURM file, which describes the jobs that workers run in."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.options import Frozen, validated
from estbench.toml_files import read_toml

# A job that has a node starts its worker in a few seconds.
PATIENCE_SECONDS = 60
PROGRAMS = ("sbatch", "scancel")
Count = Annotated[int, Field(ge=1, le=100_000)]
# Local workers get these by configuration (``engines.DASK_CONFIG``), jobs by their environment. For memory, both
# are set: setting the first keeps glibc from raising the second.
ENVIRONMENT = (
    "DASK_DISTRIBUTED__WORKER__DAEMON=False",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False",
    "MALLOC_TRIM_THRESHOLD_=268435456",
    "MALLOC_MMAP_THRESHOLD_=33554432",
)


def _matching(pattern: str, example: str) -> AfterValidator:
    """Refuse whatever does not match as a whole; so a value is one word of the job's script, and no option."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"takes {example}, and not {value!r}")
        return value

    return AfterValidator(check)


def _directive(value: str) -> str:
    """One option of ``sbatch``, with or without a value, quoted as ``sbatch`` takes it."""
    try:
        words = shlex.split(_line(value))
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be read: {error}") from None
    named = re.fullmatch(r"(-[a-zA-Z]\d*|--[a-zA-Z][\w-]*)(=.*)?", words[0], re.ASCII) if words else None
    if named is None or len(words) > 2 or (len(words) == 2 and (named[2] or words[1].startswith("-"))):
        raise ValueError(f'takes one option each, like "--gres=gpu:1", and not {value!r}; quote a value with spaces')
    return " ".join(quoted(word) for word in words)


def _prologue(value: str) -> str:
    """One line of shell; an option of ``sbatch`` would be ignored there."""
    if _line(value).lstrip().startswith("#SBATCH"):
        raise ValueError(f"takes lines of shell; write {value!r} among the directives")
    return value


def _line(value: str) -> str:
    if not value.strip() or not all(sign == "\t" or sign.isprintable() for sign in value):
        raise ValueError(f"takes one line of text each, and not {value!r}")
    return value


def quoted(word: str) -> str:
    """One word as ``sbatch`` takes it in a directive: unlike a shell, it knows the backslash within all quotes."""
    if re.fullmatch(r"[\w@%+=:,./-]+", word, re.ASCII):
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


Name = Annotated[str, _matching(r"\w[\w.,:@%+=/-]{0,199}", "letters, digits and a few signs, without spaces")]
Memory = Annotated[str, _matching(r"(?=.*[1-9])\d{1,9}(\.\d{1,9})? ?([kKMGTP]i?)?B", 'a number of bytes like "4GB"')]
Walltime = Annotated[
    str, _matching(r"(\d{1,5}-)?\d{1,6}(:\d{1,2}){0,2}|UNLIMITED|INFINITE", 'a time like "04:00:00" or "2-12:00:00"')
]
Interface = Annotated[str, _matching(r"[a-zA-Z0-9][\w.:@-]{0,63}", 'a name like "ib0"')]
Directive = Annotated[str, AfterValidator(_directive)]
Prologue = Annotated[str, AfterValidator(_prologue)]


class Slurm(Frozen):
    """One job is one worker; each key is one of the usual options of ``sbatch``.

    No value becomes another option or another line of the job's script: whatever could is refused.
    """

    jobs: Count = Field(description="at most so many at a time")
    threads: Count = Field(default=1, description="cores of a job, all used by its cell")
    memory: Memory = Field(default="4GB", description="of a job")
    walltime: Walltime = Field(
        default="01:00:00", description="longer than the longest cell; else that cell resumes in another job"
    )
    queue: Name | None = Field(default=None, description="the partition")
    account: Name | None = None
    directives: tuple[Directive, ...] = Field(default=(), description='further ones, like "--gres=gpu:1"')
    prologue: tuple[Prologue, ...] = Field(default=(), description='lines of shell, like "module load cuda"')
    interface: Interface = Field(
        default="lo", description="network that scheduler and workers talk on; loopback: one node"
    )
    protocol: Literal["tcp", "tls"] = "tcp"

    def check_machine(self, logs: GuardedPath) -> None:
        """Refuse at once what could start no job: a machine without SLURM, or a folder that it cannot write to."""
        if absent := [program for program in PROGRAMS if shutil.which(program) is None]:
            raise EstbenchError(
                f"--slurm needs {' and '.join(absent)}, which this machine does not have on its PATH; run on a login "
                "node of a cluster with SLURM, or use --jobs here"
            )
        known = [name for _, name in socket.if_nameindex()]
        if self.interface not in known:
            raise EstbenchError(
                f"this machine has no network interface '{self.interface}', and has {', '.join(known)}; name one in "
                "the SLURM file that its nodes reach, as 'interface'"
            )
        if "\\" in str(logs) or not str(logs).isprintable():
            raise EstbenchError(
                f"SLURM cannot write its logs to '{logs}': a path with a backslash, a line break or the like is not "
                "possible there; choose another --out"
            )

    def options(self, threads: int, logs: GuardedPath) -> dict[str, Any]:
        """As dask-jobqueue takes them, which quotes nothing itself."""
        log = str(logs / "estbench-").replace("%", "%%") + "%j"
        outputs = (quoted(f"--error={log}.err"), quoted(f"--output={log}.out"))
        return {
            "job_name": "estbench",
            "python": shlex.quote(sys.executable),
            "cores": 1,
            "processes": 1,
            "job_cpu": threads,
            "memory": self.memory,
            "walltime": self.walltime,
            "queue": self.queue,
            "account": self.account,
            "interface": self.interface,
            "protocol": f"{self.protocol}://",
            "job_extra_directives": [*outputs, *self.directives],
            "job_script_prologue": [*(f"export {setting}" for setting in ENVIRONMENT), *self.prologue],
            "worker_extra_args": [
                *("--dashboard-address", "127.0.0.1:0"),
                *("--preload", "estbench.execution.worker"),
            ],
            "scheduler_options": {"dashboard_address": "127.0.0.1:0", "interface": self.interface},
        }


class MissingWorkerNotice:
    """Warns if no SLURM job has started a worker for a while, and says where to look.

    What keeps a job from starting its worker is written to the job's own file, and nowhere else.
    """

    def __init__(self, logs: GuardedPath, started: float) -> None:
        self.logs = logs
        self.since = started
        self.last_message = ""

    def message(self, workers: int, now: float) -> str | None:
        """Return the message at ``now``, seconds of the clock of ``started``; None if there is no new one."""
        if workers:
            self.since, self.last_message = now, ""
        if workers or now - self.since < PATIENCE_SECONDS:
            return None
        found = last_error_line(self.logs)
        message = f"no SLURM job has started a worker for {PATIENCE_SECONDS} s: "
        if found is None:
            message += f"the jobs are waiting in the queue (see squeue), or their logs are in '{self.logs}'"
        else:
            message += f"see '{found[0]}', which ends in: {found[1]}"
        if message == self.last_message:
            return None
        self.last_message = message
        return message


def last_error_line(logs: GuardedPath) -> tuple[GuardedPath, str] | None:
    """Return the newest error file of a job that is not empty, and its last line; None if there is none."""
    found = [path for path in logs.iterdir() if path.suffix == ".err" and path.is_file()]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        text = path.read_end(5000).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return path, lines[-1][:200]
    return None


def read_slurm(path: str | Path) -> Slurm:
    """Read a SLURM file; an error in it is one line that names the place."""
    data = read_toml(path, f"no SLURM file '{path}'; --slurm takes the path of a TOML file")
    return validated(Slurm, data, Path(path).name)
