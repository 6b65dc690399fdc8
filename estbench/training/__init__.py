"""One cell, from its seeds to its record."""

from estbench.training.cell import run_cell
from estbench.training.interrupts import Interrupts
from estbench.training.loop import Outcome, advance, train
from estbench.training.state import State

__all__ = ["Interrupts", "Outcome", "State", "advance", "run_cell", "train"]
