"""One cell, from its seeds to its record."""

from estbench.training.cell import give_up, run_cell
from estbench.training.deadline import Deadline
from estbench.training.interrupts import Interrupts
from estbench.training.loop import Outcome, advance, train
from estbench.training.state import State

__all__ = ["Deadline", "Interrupts", "Outcome", "State", "advance", "give_up", "run_cell", "train"]
