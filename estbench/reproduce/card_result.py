"""Running a card, and its result."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from estbench.errors import EstbenchError
from estbench.options import Frozen
from estbench.reproduce.card import JudgedExpectation, ReproductionCard, Verdict
from estbench.reproduce.studies import Panel, StudyResult, find_study, load_study
from estbench.stats import Interval

MOST_PANELS = 24
FAILED = "failed"


@dataclass(frozen=True)
class CardResult:
    """A card with what its study computed: None if the study itself failed, and then ``error`` says why."""

    card: ReproductionCard
    measured: StudyResult | None
    seconds: float
    error: str = ""
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def judged(self) -> tuple[JudgedExpectation, ...]:
        """Each expectation of the card with the quantity that was measured; none if the study failed."""
        if self.measured is None:
            return ()
        quantities = self.measured.quantities
        return tuple(JudgedExpectation(each, quantities[each.quantity]) for each in self.card.expect)

    @property
    def verdict(self) -> str:
        """The verdict that follows from those of the expectations; ``failed`` if the study failed."""
        return FAILED if self.measured is None else combine(judged.verdict for judged in self.judged)

    @property
    def deciding(self) -> JudgedExpectation | None:
        """The first of the judged expectations that has the verdict of the whole; None if the study failed."""
        return next((judged for judged in self.judged if judged.verdict == self.verdict), None)

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the card foresees."""
        return self.verdict == self.card.verdict

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


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on a claim from those on its expectations.

    ``contradicted`` if any of them is, else ``undecided`` if any of them is, else ``reproduced``.

    >>> combine(["reproduced", "undecided", "reproduced"])
    'undecided'
    """
    found = set(verdicts)
    worst: tuple[Verdict, ...] = ("contradicted", "undecided")
    return next((verdict for verdict in worst if verdict in found), "reproduced")


class StoredQuantity(Frozen):
    """A measured quantity as it is stored; its verdict is found again from the numbers."""

    quantity: str
    expected: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    verdict: str

    @property
    def interval(self) -> Interval:
        """The numbers; what was not finite is NaN."""
        value, low, high = (math.nan if each is None else each for each in (self.value, self.low, self.high))
        return Interval(value, low, high, self.n)


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
    seconds: float
    error: str
    expectations: tuple[StoredQuantity, ...]
    points: tuple[StoredPoint, ...]
    axes: tuple[str, str]
    log_axes: tuple[bool, bool]
    panels: dict[str, Panel] = Field(default_factory=dict)
    bars: str = StudyResult.bars
    environment: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_whole(self) -> StoredCardResult:
        panels, lines = ({getattr(point, name) for point in self.points} for name in ("panel", "series"))
        if len(panels) > MOST_PANELS or len(lines) > MOST_PANELS:
            raise ValueError(f"a figure has at most {MOST_PANELS} panels and lines")
        missing = {each.quantity for each in self.card.expect} - {each.quantity for each in self.expectations}
        if missing and not self.error:
            raise ValueError(f"'{min(missing)}', which the card expects, was not measured")
        return self

    def as_result(self) -> CardResult:
        """Return it as if its card had just run."""
        measured = StudyResult(
            {each.quantity: each.interval for each in self.expectations},
            [point.model_dump(exclude_unset=True) for point in self.points],
            self.axes,
            self.log_axes,
            self.panels,
            self.bars,
        )
        return CardResult(self.card, None if self.error else measured, self.seconds, self.error, self.environment)


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
        return CardResult(card, None, time.perf_counter() - started, reason)
    for expectation in card.expect:
        if expectation.quantity not in measured.quantities:
            raise EstbenchError(
                f"card '{card.name}' expects '{expectation.quantity}', which its study does not compute;"
                f" it computes {', '.join(measured.quantities)}"
            )
    return CardResult(card, measured, time.perf_counter() - started)
