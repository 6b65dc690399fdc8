"""The outcomes as a table: claim, expected, measured with its interval, verdict, time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from estbench.report.tables.base import Column, Entry, Table, interval_note, significant
from estbench.reproduce.card import Card
from estbench.reproduce.outcome import Outcome
from estbench.stats import Interval

NOT_RUN = "not run"


def table(cards: Sequence[Card], outcomes: Sequence[dict[str, Any]]) -> Table:
    """One block for each card, one row for each of its expectations; a card without an outcome was not run.

    ``outcomes`` are plain data, as ``Outcome.as_dict`` makes them and ``results`` keeps them.
    """
    by_name = {str(outcome["card"]["name"]): outcome for outcome in outcomes}
    data: list[dict[str, Any]] = []
    rows: list[tuple[Entry, ...]] = []
    rules: set[int] = set()
    for card in cards:
        rules.add(len(rows))
        outcome = by_name.get(card.name)
        for place, expectation in enumerate(card.expect):
            found = _found(outcome, expectation.quantity)
            verdict = _verdict(card, outcome)
            seconds = outcome["seconds"] if outcome else math.nan
            data.append(
                {
                    "card": card.name,
                    "tier": card.tier,
                    "claim": card.claim,
                    "paper": card.paper,
                    "quantity": expectation.quantity,
                    "expected": str(expectation),
                    **dict(zip(("measured", "low", "high", "n"), found, strict=True)),
                    "verdict": verdict,
                    "seconds": seconds,
                }
            )
            first = place == 0
            rows.append(
                (
                    Entry(card.name if first else ""),
                    Entry(f"{card.claim} ({card.paper}, {card.where})" if first else ""),
                    Entry(expectation.quantity),
                    Entry(str(expectation)),
                    Entry(significant(found.value), _note(found)),
                    Entry(verdict if first else ""),
                    Entry("" if not first or math.isnan(seconds) else f"{seconds:.1f}"),
                )
            )
    return Table(
        "reproductions",
        "Claims of the literature, put to the test",
        "Measured: 95 % interval, and n. Reproduced: every interval lies wholly on the side, or within the tolerance,"
        " that is expected. A claim that does not reproduce stays, with what was found.",
        pd.DataFrame(data),
        (
            Column("card", numeric=False, head=True),
            Column("claim", numeric=False),
            Column("quantity", numeric=False),
            Column("expected"),
            Column("measured"),
            Column("verdict", numeric=False),
            Column("seconds"),
        ),
        tuple(rows),
        frozenset(rules - {0}),
    )


def short_line(outcome: Outcome) -> str:
    """One line for a log."""
    return f"{outcome.card.name}: {outcome.verdict} ({outcome.seconds:.1f} s)"


def _found(outcome: dict[str, Any] | None, quantity: str) -> Interval:
    for expectation in outcome["expectations"] if outcome else ():
        if expectation["quantity"] == quantity:
            value, low, high = (_number(expectation[key]) for key in ("value", "low", "high"))
            return Interval(value, low, high, int(expectation["n"]))
    return Interval(math.nan, math.nan, math.nan, 0)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _note(found: Interval) -> str:
    return interval_note(found, significant(found.low), significant(found.high)) if found.n else ""


def _verdict(card: Card, outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return NOT_RUN
    verdict = str(outcome["verdict"])
    return verdict if card.reproduces or verdict == "failed" else f"{verdict}, as known: {card.finding}"
