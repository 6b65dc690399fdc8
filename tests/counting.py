"""A card whose study counts to one: nothing is measured, and everything else of a reproduction is done."""

from __future__ import annotations

from pathlib import Path

CARD = """
claim = "One is less than two."
paper = "williams1992"
where = "Section 1"
protocol = "Count."
deviations = []
computed = "By counting."
tier = "seconds"
study = "counting"

[[expect]]
quantity = "one"
relation = "less"
value = 2.0
source = "arithmetic"
"""
STUDY = '''
from estbench.options import BaseOptions
from estbench.reproduce import StudyResult, figure_point, study
from estbench.stats import Interval


@study(BaseOptions)
def counting(options):
    """Count to one."""
    points = [figure_point("all", "a", x, Interval(x, 0, 9, 7), expected=x) for x in (1, 2)]
    return StudyResult({"one": Interval(1, 0.5, 1.5, 7)}, points, ("x", "y"))
'''


def write(folder: Path, name: str = "counting") -> Path:
    """Write the card by some name, and its study beside it."""
    (folder / "counting.py").write_text(STUDY, encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(CARD, encoding="utf-8")
    return path
