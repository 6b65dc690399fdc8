"""Experiments as pure data: their settings, plans, keys and seeds. Imports no torch."""

from estbench.experiment.keys import SCHEMA_VERSION, content_hash, stream_seed
from estbench.experiment.plan import Cell, Plan, make_plan
from estbench.experiment.spec import (
    Evaluation,
    Experiment,
    Probe,
    Throughput,
    find_experiment,
    log_spaced,
    read_experiment,
)
from estbench.experiment.training import Schedule, Training

__all__ = [
    "SCHEMA_VERSION",
    "Cell",
    "Evaluation",
    "Experiment",
    "Plan",
    "Probe",
    "Schedule",
    "Throughput",
    "Training",
    "content_hash",
    "find_experiment",
    "log_spaced",
    "make_plan",
    "read_experiment",
    "stream_seed",
]
