"""Putting a card to the test, and what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import model_validator

from estbench.errors import EstbenchError
from estbench.options import Frozen
from estbench.reproduce.card import Card, Judged
from estbench.reproduce.measurements import Measured, measure
from estbench.stats import Interval

MOST_PANELS = 24


@dataclass(frozen=True)
class Outcome:
    """A card with what was measured: nothing where the measurement itself failed, and then the reason."""

    card: Card
    judged: tuple[Judged, ...]
    measured: Measured | None
    seconds: float
    error: str = ""

    @property
    def verdict(self) -> str:
        """``reproduced`` where every expectation is; else ``not reproduced``, or ``failed`` without a measurement."""
        if self.error:
            return "failed"
        return "reproduced" if all(judged.verdict == "reproduced" for judged in self.judged) else "not reproduced"

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the card foresees."""
        return self.verdict == ("reproduced" if self.card.reproduces else "not reproduced")

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "card": self.card.model_dump(mode="json"),
            "verdict": self.verdict,
            "as_expected": self.as_expected,
            "seconds": round(self.seconds, 2),
            "error": self.error,
            "expectations": [
                {
                    "quantity": judged.expectation.quantity,
                    "expected": str(judged.expectation),
                    **dict(zip(("value", "low", "high", "n"), judged.measured, strict=True)),
                    "verdict": judged.verdict,
                }
                for judged in self.judged
            ],
            "points": self.measured.points if self.measured else [],
        }


class Found(Frozen):
    """What is kept of an expectation."""

    quantity: str
    expected: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    verdict: str


class Point(Frozen):
    """A point of a card's figure: a panel and a line in it, a place, the value with its interval, what theory says."""

    panel: str
    series: str
    x: float
    value: float | None
    low: float | None = None
    high: float | None = None
    expected: float | None = None


class Kept(Frozen):
    """An outcome as a folder keeps it, which may be a stranger's."""

    card: Card
    verdict: str
    as_expected: bool
    seconds: float
    error: str
    expectations: tuple[Found, ...]
    points: tuple[Point, ...]
    axes: tuple[str, str]
    log_axes: tuple[bool, bool]

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Kept:
        panels, lines = ({getattr(point, name) for point in self.points} for name in ("panel", "series"))
        if len(panels) > MOST_PANELS or len(lines) > MOST_PANELS:
            raise ValueError(f"a figure has at most {MOST_PANELS} panels and lines")
        return self


def put_to_the_test(card: Card, measuring: Callable[[str, dict[str, Any]], Measured] = measure) -> Outcome:
    """Measure what a card claims. A measurement that raises is an outcome too, and stops no other card."""
    started = time.perf_counter()
    try:
        measured = measuring(card.measurement, card.settings)
    except EstbenchError:
        raise  # a mistake in the card itself
    except Exception as error:  # noqa: BLE001  (whatever went wrong inside belongs to this card alone)
        reason = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        return Outcome(card, (), None, time.perf_counter() - started, reason)
    judged = tuple(Judged(expectation, _quantity(card, measured, expectation.quantity)) for expectation in card.expect)
    return Outcome(card, judged, measured, time.perf_counter() - started)


def _quantity(card: Card, measured: Measured, name: str) -> Interval:
    if name not in measured.quantities:
        raise EstbenchError(
            f"card '{card.name}' expects '{name}', which its measurement does not give;"
            f" it gives {', '.join(measured.quantities)}"
        )
    return measured.quantities[name]
