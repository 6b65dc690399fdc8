"""The results of cards as a table: claim, expected, measured with its interval, verdict, time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from estbench.report.tables.base import Column, Entry, Table, interval_note, significant
from estbench.reproduce.card import ReproductionCard
from estbench.reproduce.card_result import CardResult
from estbench.stats import Interval

NOT_RUN = "not run"


def table(cards: Sequence[ReproductionCard], results: Sequence[dict[str, Any]]) -> Table:
    """Return a block for each card, a row for each of its expectations; a card without a result was not run.

    ``results`` are plain data, as ``CardResult.as_dict`` makes them and as they are on disk.
    """
    by_name = {str(result["card"]["name"]): result for result in results}
    data: list[dict[str, Any]] = []
    rows: list[tuple[Entry, ...]] = []
    rules: set[int] = set()
    for card in cards:
        rules.add(len(rows))
        result = by_name.get(card.name)
        for place, expectation in enumerate(card.expect):
            measured = _measured(result, expectation.quantity)
            verdict = _verdict(card, result)
            seconds = result["seconds"] if result else math.nan
            data.append(
                {
                    "card": card.name,
                    "tier": card.tier,
                    "claim": card.claim,
                    "paper": card.paper,
                    "quantity": expectation.quantity,
                    "expected": str(expectation),
                    **dict(zip(("measured", "low", "high", "n"), measured, strict=True)),
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
                    Entry(significant(measured.value), _note(measured)),
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


def short_line(result: CardResult) -> str:
    """Return one line for a log."""
    return f"{result.card.name}: {result.verdict} ({result.seconds:.1f} s)"


def _measured(result: dict[str, Any] | None, quantity: str) -> Interval:
    for expectation in result["expectations"] if result else ():
        if expectation["quantity"] == quantity:
            value, low, high = (_number(expectation[key]) for key in ("value", "low", "high"))
            return Interval(value, low, high, int(expectation["n"]))
    return Interval(math.nan, math.nan, math.nan, 0)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _note(measured: Interval) -> str:
    return interval_note(measured, significant(measured.low), significant(measured.high)) if measured.n else ""


def _verdict(card: ReproductionCard, result: dict[str, Any] | None) -> str:
    if result is None:
        return NOT_RUN
    verdict = str(result["verdict"])
    return verdict if card.reproduces or verdict == "failed" else f"{verdict}, as known: {card.finding}"
