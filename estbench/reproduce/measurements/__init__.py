"""What cards measure: a function per protocol, known by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from estbench.errors import EstbenchError, did_you_mean
from estbench.options import BaseOptions, validated
from estbench.stats import Interval


@dataclass(frozen=True)
class Measured:
    """What a measurement found.

    ``quantities`` by the names that a card's expectations use. ``points`` for the card's figure, in long form: panel,
    series, x, value, low, high, and ``expected`` where theory has a value; ``axes`` its labels.
    """

    quantities: dict[str, Interval]
    points: list[dict[str, Any]] = field(default_factory=list)
    axes: tuple[str, str] = ("", "")
    log_axes: tuple[bool, bool] = (False, False)


Measurement = Callable[[Any], Measured]
_MEASUREMENTS: dict[str, tuple[type[BaseOptions], Measurement]] = {}


def measurement(name: str, options: type[BaseOptions]) -> Callable[[Measurement], Measurement]:
    """Decorator: make a function of its checked options known to cards as ``name``."""

    def decorator(function: Measurement) -> Measurement:
        _MEASUREMENTS[name] = (options, function)
        return function

    return decorator


def measure(name: str, settings: dict[str, Any]) -> Measured:
    """Run a measurement; raise ``EstbenchError`` for an unknown name or setting."""
    options, function = known(name)
    return function(validated(options, settings, f"settings of the measurement '{name}'"))


def known(name: str) -> tuple[type[BaseOptions], Measurement]:
    """The options and the function of a measurement."""
    for module in iter_modules(__path__, f"{__name__}."):
        import_module(module.name)
    if name not in _MEASUREMENTS:
        raise EstbenchError(f"unknown measurement '{name}'; {did_you_mean(name, _MEASUREMENTS)}")
    return _MEASUREMENTS[name]
