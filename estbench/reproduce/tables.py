"""The results of cards as tables: one row for each claim, and one row for each of its checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from estbench.report.analysis.wording import count_noun
from estbench.report.tables.base import MINUS, NOTHING, Column, Entry, Table, interval_note, significant
from estbench.reproduce.card import Expectation, JudgedExpectation, ReproductionCard
from estbench.reproduce.card_result import FAILED, CardResult
from estbench.stats import Interval

# What a reader should see first stands first.
ORDER = ("contradicted", "undecided", FAILED, "reproduced")
BRACKETS = (
    "Brackets: the 95 % interval, not corrected for the number of checks; for a crossing, the two places of the grid"
    " that it lies between. A number without brackets has no sampling error, or is the extreme of a whole grid."
)
RULE = (
    "A check is reproduced if all of its interval agrees with what is claimed, contradicted if none of it does, and"
    " undecided if the interval holds values of both kinds. A claim is contradicted if one of its checks is, undecided"
    " if one of them is and none is contradicted, and else reproduced."
)


def sort_results(results: Iterable[CardResult], cards: Iterable[ReproductionCard]) -> list[CardResult]:
    """Return results in the order of their outcomes, with the words of their cards as they are in ``cards``.

    A result whose card is not there, or claims or computes something else today, keeps the card that it had.
    """
    today = {card.name: card for card in cards}
    current = []
    for result in results:
        card = today.get(result.card.name, result.card)
        current.append(replace(result, card=card) if _protocol(card) == _protocol(result.card) else result)
    return sorted(current, key=lambda result: (ORDER.index(result.verdict), result.card.name))


def count_outcomes(results: Sequence[CardResult]) -> str:
    """Return one sentence that says how many claims have each outcome."""
    counts = {outcome: sum(result.verdict == outcome for result in results) for outcome in ORDER}
    first = counts.pop("reproduced")
    verb = "is" if len(results) == 1 else "are"
    rest = "".join(f", {count} {outcome}" for outcome, count in counts.items() if count)
    return f"{first} of {count_noun(len(results), 'claim')} {verb} reproduced{rest}."


def claims_table(results: Sequence[CardResult]) -> Table:
    """Return a row for each claim: its sentence, its outcome, and the number that decides it."""
    return Table(
        "reproductions",
        "Claims of the literature, put to the test",
        f"{RULE} The number is that of the first check with the outcome of the claim. {BRACKETS}",
        checks_data(results),
        (Column("claim", numeric=False, head=True), Column("outcome", numeric=False), Column("measured")),
        tuple(
            (Entry(result.card.claim, result.card.name), Entry(result.verdict, count_checks(result)), _decide(result))
            for result in results
        ),
    )


def names_table(results: Sequence[CardResult]) -> Table:
    """Return the short form that fits an article: the names of the cards in place of their sentences."""
    return Table(
        "reproductions",
        "Claims of the literature, put to the test",
        RULE,
        checks_data(results),
        tuple(Column(title, numeric=False, head=title == "card") for title in ("card", "paper", "outcome", "checks")),
        tuple(
            (
                Entry(result.card.name),
                Entry(result.card.paper),
                Entry(result.verdict),
                Entry(count_checks(result).partition(" check")[0] or NOTHING),
            )
            for result in results
        ),
    )


def checks_table(results: Sequence[CardResult]) -> Table:
    """Return a block for each claim with a row for each of its checks."""
    rows: list[tuple[Entry, ...]] = []
    rules = set()
    for result in results:
        rules.add(len(rows))
        for place, check in enumerate(_checks(result)):
            rows.append(
                (
                    Entry(result.card.name if place == 0 else ""),
                    Entry(check.expectation.quantity),
                    Entry(write_claimed(check.expectation)),
                    write_measured(check),
                    Entry(check.verdict if result.judged else result.verdict),
                )
            )
    return Table(
        "checks",
        "Every check",
        BRACKETS,
        checks_data(results),
        (
            Column("card", numeric=False, head=True),
            Column("check", numeric=False),
            Column("claimed"),
            Column("measured"),
            Column("outcome", numeric=False),
        ),
        tuple(rows),
        frozenset(rules - {0}),
    )


def checks_data(results: Sequence[CardResult]) -> pd.DataFrame:
    """Return the raw numbers of every check, with the outcome of its claim."""
    return pd.DataFrame(
        {
            "card": result.card.name,
            "tier": result.card.tier,
            "claim": result.card.claim,
            "paper": result.card.paper,
            "outcome_of_claim": result.verdict,
            "check": check.expectation.quantity,
            "claimed": str(check.expectation),
            **dict(zip(("measured", "low", "high", "n"), check.measured, strict=True)),
            "outcome": check.verdict if result.judged else result.verdict,
            "seconds": result.seconds,
            "finding": result.card.finding,
        }
        for result in results
        for check in _checks(result)
    )


def count_checks(result: CardResult) -> str:
    """Return how many checks have the outcome of the claim; nothing if none was measured."""
    same = sum(check.verdict == result.verdict for check in result.judged)
    return f"{same} of {count_noun(len(result.judged), 'check')}" if result.judged else ""


def write_claimed(expectation: Expectation) -> str:
    """Return what is claimed of a quantity, as a page writes numbers."""
    return str(expectation).replace("-", MINUS)


def write_measured(check: JudgedExpectation) -> Entry:
    """Return what was measured, with its interval; one of no width is none."""
    value, low, high, n = check.measured
    if math.isnan(value):
        return Entry(NOTHING)
    if low == high:
        return Entry(_write(value, check.expectation), f"n = {n}")
    ends = (_write(end, check.expectation) for end in (low, high))
    return Entry(_write(value, check.expectation), interval_note(check.measured, *ends))


def short_line(result: CardResult) -> str:
    """Return one line for a log."""
    foreseen = "" if result.as_expected else f"; the card foresees: {result.card.verdict}"
    return f"{result.card.name}: {result.verdict} ({result.seconds:.1f} s){foreseen}"


def _protocol(card: ReproductionCard) -> tuple[object, ...]:
    """Return what decides the numbers of a card, and what is claimed of them."""
    return card.study, card.options, card.expect


def _checks(result: CardResult) -> Sequence[JudgedExpectation]:
    """Return its checks, without numbers if none was measured."""
    unknown = Interval(math.nan, math.nan, math.nan, 0)
    return result.judged or [JudgedExpectation(each, unknown) for each in result.card.expect]


def _decide(result: CardResult) -> Entry:
    check = result.deciding
    if check is None:
        return Entry(NOTHING)
    measured, expectation = write_measured(check), check.expectation
    words = f"{expectation.quantity}, claimed {write_claimed(expectation)}"
    return Entry(measured.text, f"{measured.note}; {words}" if measured.note else words)


def _write(value: float, expectation: Expectation) -> str:
    """Return a number with as many digits as it takes to see on which side of the claim's boundary it lies."""
    for digits in range(3, 9):
        text = f"{value:.{digits}g}"
        if all(float(text) != end or value == end for end in expectation.accepted):
            break
    return significant(value) if digits == 3 else text.replace("-", MINUS)
