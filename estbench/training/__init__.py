"""One cell, from its seeds to its record."""

from estbench.training.cell import run_cell
from estbench.training.interrupts import Interrupts
from estbench.training.loop import Outcome, train
from estbench.training.probing import check_probe
from estbench.training.state import State
from estbench.training.step import advance

__all__ = ["Interrupts", "Outcome", "State", "advance", "check_probe", "run_cell", "train"]
