"""What a SLURM file says: the jobs that workers run in."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from estbench.errors import EstbenchError
from estbench.validation import Frozen, validated

Count = Annotated[int, Field(ge=1)]
# What local workers get by configuration (see ``engines.SETTINGS``), jobs get by their environment.
ENVIRONMENT = ("DASK_DISTRIBUTED__WORKER__DAEMON=False", "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False")


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
    protocol: str = Field(default="tcp", pattern="^(tcp|tls)$")

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


def read_slurm(path: str | Path) -> Slurm:
    """Read a SLURM file; a mistake in it is one line that says where."""
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EstbenchError(f"no SLURM file '{path}'; --slurm takes the path of a TOML file") from None
    except OSError as error:
        raise EstbenchError(f"cannot read '{path}': {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EstbenchError(f"'{path}' is not valid TOML: {error}") from None
    return validated(Slurm, data, Path(path).name)
