"""One cell, from its seeds to its record."""

from estbench.training.cell import record_failure, run_cell
from estbench.training.loop import Outcome, take_steps, train
from estbench.training.measuring import check_probe
from estbench.training.state import State
from estbench.training.stopping import Deadline, Interrupts

__all__ = [
    "Deadline",
    "Interrupts",
    "Outcome",
    "State",
    "check_probe",
    "record_failure",
    "run_cell",
    "take_steps",
    "train",
]
