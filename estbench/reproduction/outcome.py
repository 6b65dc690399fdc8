"""Putting a card to the test, and what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from estbench.errors import EstbenchError
from estbench.reproduction.card import Card, Judged
from estbench.reproduction.measurements import Measured, measure
from estbench.stats import Interval


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
