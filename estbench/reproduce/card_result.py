"""Running a card, and its result."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import Any

from pydantic import model_validator

from estbench.errors import EstbenchError
from estbench.options import Frozen
from estbench.reproduce.card import JudgedExpectation, ReproductionCard
from estbench.reproduce.studies import StudyResult, find_study, load_study
from estbench.stats import Interval

MOST_PANELS = 24


@dataclass(frozen=True)
class CardResult:
    """A card with what its study computed: None if the study itself failed, and then ``error`` says why."""

    card: ReproductionCard
    judged: tuple[JudgedExpectation, ...]
    measured: StudyResult | None
    seconds: float
    error: str = ""

    @property
    def verdict(self) -> str:
        """``reproduced`` if every expectation is; else ``not reproduced``, or ``failed`` if the study failed."""
        if self.error:
            return "failed"
        return "reproduced" if all(judged.verdict == "reproduced" for judged in self.judged) else "not reproduced"

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the card foresees."""
        return self.verdict == ("reproduced" if self.card.reproduces else "not reproduced")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
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


class StoredExpectation(Frozen):
    """An expectation and its outcome, as they are stored."""

    quantity: str
    expected: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    verdict: str


class StoredPoint(Frozen):
    """A point of a card's figure: a panel and a line in it, a place, the value with its interval, what theory says."""

    panel: str
    series: str
    x: float
    value: float | None
    low: float | None = None
    high: float | None = None
    expected: float | None = None


class StoredCardResult(Frozen):
    """A result as a folder keeps it, which may be a stranger's."""

    card: ReproductionCard
    verdict: str
    as_expected: bool
    seconds: float
    error: str
    expectations: tuple[StoredExpectation, ...]
    points: tuple[StoredPoint, ...]
    axes: tuple[str, str]
    log_axes: tuple[bool, bool]

    @model_validator(mode="after")
    def _can_be_drawn(self) -> StoredCardResult:
        panels, lines = ({getattr(point, name) for point in self.points} for name in ("panel", "series"))
        if len(panels) > MOST_PANELS or len(lines) > MOST_PANELS:
            raise ValueError(f"a figure has at most {MOST_PANELS} panels and lines")
        return self


def run_card(card: ReproductionCard) -> CardResult:
    """Run the study of a card, and judge what it computed by the card's expectations.

    The study is code: the file that the card names, in the card's own folder. A study that raises gives a result too,
    and stops no other card; a mistake in the card, or in loading the study, is raised as ``EstbenchError``.
    """
    started = time.perf_counter()
    study = load_study(find_study(card))
    try:
        measured = study(card.options)
    except EstbenchError:
        raise  # a mistake in the card itself
    except Exception as error:  # noqa: BLE001  (whatever went wrong inside belongs to this card only)
        reason = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        return CardResult(card, (), None, time.perf_counter() - started, reason)
    judged = tuple(
        JudgedExpectation(expectation, _quantity(card, measured, expectation.quantity)) for expectation in card.expect
    )
    return CardResult(card, judged, measured, time.perf_counter() - started)


def _quantity(card: ReproductionCard, measured: StudyResult, name: str) -> Interval:
    if name not in measured.quantities:
        raise EstbenchError(
            f"card '{card.name}' expects '{name}', which its study does not compute;"
            f" it computes {', '.join(measured.quantities)}"
        )
    return measured.quantities[name]
