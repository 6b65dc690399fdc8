"""Measurements: gradient moments, bounds, throughput, clocks and memory."""

from estbench.measure.bias import Reference, exact_reference
from estbench.measure.clocks import Clocks, synchronize
from estbench.measure.environment import describe_environment
from estbench.measure.frozen import frozen
from estbench.measure.gradient_probe import estimated_reference, probe
from estbench.measure.lower_bounds import Bounds, bounds
from estbench.measure.moments import Moments
from estbench.measure.throughput import measure_throughput

__all__ = [
    "Bounds",
    "Clocks",
    "Moments",
    "Reference",
    "bounds",
    "describe_environment",
    "estimated_reference",
    "exact_reference",
    "frozen",
    "measure_throughput",
    "probe",
    "synchronize",
]
