"""One cell, from its seeds to its record."""

from estbench.training.cell import give_up, run_cell
from estbench.training.loop import Outcome, train
from estbench.training.probing import check_probe
from estbench.training.state import State
from estbench.training.step import advance
from estbench.training.stopping import Deadline, Interrupts

__all__ = [
    "Deadline",
    "Interrupts",
    "Outcome",
    "State",
    "advance",
    "check_probe",
    "give_up",
    "run_cell",
    "train",
]
