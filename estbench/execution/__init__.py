"""Where cells run: in this process, in worker processes, on a dask cluster, on SLURM."""

from estbench.execution.config import Listener
from estbench.execution.planning import as_experiment, plan_of
from estbench.execution.runner import run

__all__ = ["Listener", "as_experiment", "plan_of", "run"]
