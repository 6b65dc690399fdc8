"""One cell, from its seeds to its record."""

from estbench.training.batches import evaluation_batch
from estbench.training.cell import record_failure, run_cell
from estbench.training.loop import Outcome, take_steps, train
from estbench.training.measuring import check_probe
from estbench.training.state import State, start_run
from estbench.training.stopping import Deadline, Interrupts

__all__ = [
    "Deadline",
    "Interrupts",
    "Outcome",
    "State",
    "check_probe",
    "evaluation_batch",
    "record_failure",
    "run_cell",
    "start_run",
    "take_steps",
    "train",
]
