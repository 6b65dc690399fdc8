"""The numbers of a report, from records only."""

from estbench.report.analysis.analysis import Analysis

__all__ = ["Analysis"]
