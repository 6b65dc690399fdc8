"""Measurements: gradient moments, bounds, throughput, clocks and memory."""

from estbench.measure.clocks import Clocks, synchronize
from estbench.measure.environment import describe_environment
from estbench.measure.gradient_probe import probe
from estbench.measure.lower_bounds import Bounds, bounds
from estbench.measure.moments import Moments, moments_of
from estbench.measure.throughput import measure_throughput

__all__ = [
    "Bounds",
    "Clocks",
    "Moments",
    "bounds",
    "describe_environment",
    "measure_throughput",
    "moments_of",
    "probe",
    "synchronize",
]
