"""Measurements: gradient moments, bounds, metrics of one's own, throughput, clocks and memory."""

from estbench.devices import synchronize
from estbench.measure.elbo import ElboEstimate, evaluate_elbo
from estbench.measure.environment import describe_environment
from estbench.measure.frozen import frozen
from estbench.measure.gradients.bias import Reference, exact_reference
from estbench.measure.gradients.draws import draw_gradients
from estbench.measure.gradients.moments import Moments
from estbench.measure.gradients.probe import estimated_reference, probe
from estbench.measure.metrics import METRICS, describe_metric, evaluate_metric, register_metric, splits_of
from estbench.measure.pictures import pictures
from estbench.measure.timing import Clocks, measure_throughput

__all__ = [
    "METRICS",
    "Clocks",
    "ElboEstimate",
    "Moments",
    "Reference",
    "describe_environment",
    "describe_metric",
    "draw_gradients",
    "estimated_reference",
    "evaluate_elbo",
    "evaluate_metric",
    "exact_reference",
    "frozen",
    "measure_throughput",
    "pictures",
    "probe",
    "register_metric",
    "splits_of",
    "synchronize",
]
