"""A card whose measurement counts to one: nothing is measured, and everything else of a reproduction is done."""

from __future__ import annotations

from estbench.options import BaseOptions
from estbench.reproduce import measurements
from estbench.stats import Interval

CARD = """
claim = "One is less than two."
paper = "williams1992"
where = "Section 1"
protocol = "Count."
deviations = []
computed = "By counting."
tier = "seconds"
measurement = "counting"

[[expect]]
quantity = "one"
relation = "less"
value = 2.0
source = "arithmetic"
"""


def register() -> None:
    """Let the card be measured in this process, until ``forget``."""
    measurements.known("gaussian_toy_variances")  # all modules are imported now
    forget()

    @measurements.measurement("counting", BaseOptions)
    def _count(_options):
        points = [
            {"panel": "all", "series": "a", "x": x, "value": x, "low": 0, "high": 9, "expected": x} for x in (1, 2)
        ]
        return measurements.Measured({"one": Interval(1, 0.5, 1.5, 7)}, points, ("x", "y"))


def forget() -> None:
    """Take the measurement away again."""
    measurements._MEASUREMENTS.pop("counting", None)
