"""What a SLURM file says: the jobs that workers run in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from estbench.guarded import GuardedPath
from estbench.toml_files import read_toml
from estbench.validation import Frozen, validated

# A job that has a node starts its worker in a few seconds.
PATIENCE_SECONDS = 60
Count = Annotated[int, Field(ge=1)]
# What local workers get by configuration (see ``engines.SETTINGS``), jobs get by their environment.
# Of memory, both: to set the first keeps glibc from raising the second by itself.
ENVIRONMENT = (
    "DASK_DISTRIBUTED__WORKER__DAEMON=False",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False",
    "MALLOC_TRIM_THRESHOLD_=268435456",
    "MALLOC_MMAP_THRESHOLD_=33554432",
)


class Slurm(Frozen):
    """One job is one worker; each key is one of the usual options of ``sbatch``."""

    jobs: Count = Field(description="at most so many at a time")
    threads: Count = Field(default=1, description="cores of a job, all used by its cell")
    memory: str = Field(default="4GB", description="of a job")
    walltime: str = Field(default="01:00:00", description="longer than the longest cell; or it goes on in another job")
    queue: str | None = Field(default=None, description="the partition")
    account: str | None = None
    directives: tuple[str, ...] = Field(default=(), description='further ones, like "--gres=gpu:1"')
    prologue: tuple[str, ...] = Field(default=(), description='lines of shell, like "module load cuda"')
    interface: str = Field(default="lo", description="network that scheduler and workers talk on; loopback: one node")
    protocol: Literal["tcp", "tls"] = "tcp"

    def options(self, threads: int, logs: Path) -> dict[str, Any]:
        """As dask-jobqueue takes them."""
        return {
            "cores": 1,
            "processes": 1,
            "job_cpu": threads,
            "memory": self.memory,
            "walltime": self.walltime,
            "queue": self.queue,
            "account": self.account,
            "interface": self.interface,
            "protocol": f"{self.protocol}://",
            "job_extra_directives": list(self.directives),
            "job_script_prologue": [*(f"export {setting}" for setting in ENVIRONMENT), *self.prologue],
            "worker_extra_args": [
                *("--dashboard-address", "127.0.0.1:0"),
                *("--preload", "estbench.execution.worker"),
            ],
            "log_directory": str(logs),
            "scheduler_options": {"dashboard_address": "127.0.0.1:0", "interface": self.interface},
        }


class Silence:
    """Looks out for the first worker, and says once in a while where to look if there is none.

    What keeps a job from starting its worker is written to the job's own file, and nowhere else.
    """

    def __init__(self, logs: Path, started: float) -> None:
        self.logs = logs
        self.since = started
        self.told = ""

    def words(self, workers: int, now: float) -> str | None:
        """What to say at ``now``, seconds of the clock that ``started`` was read from; never the same twice."""
        if workers:
            self.since, self.told = now, ""
        if workers or now - self.since < PATIENCE_SECONDS:
            return None
        found = last_words(self.logs)
        said = f"no job of SLURM has started a worker for {PATIENCE_SECONDS} s: "
        if found is None:
            said += f"they wait in its queue (see squeue), or leave their reason in '{self.logs}'"
        else:
            said += f"see '{found[0]}', which ends in: {found[1]}"
        if said == self.told:
            return None
        self.told = said
        return said


def last_words(logs: Path) -> tuple[GuardedPath, str] | None:
    """The newest error file of a job that says anything, and its last line."""
    found = [path for path in GuardedPath(logs).iterdir() if path.suffix == ".err" and path.is_file()]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        text = path.read_end(5000).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return path, lines[-1][:200]
    return None


def read_slurm(path: str | Path) -> Slurm:
    """Read a SLURM file; a mistake in it is one line that says where."""
    data = read_toml(path, f"no SLURM file '{path}'; --slurm takes the path of a TOML file")
    return validated(Slurm, data, Path(path).name)
