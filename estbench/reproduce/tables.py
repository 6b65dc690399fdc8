"""The results of cards as tables: one row for each claim, and one row for each of its checks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from estbench.report.analysis.wording import count_noun
from estbench.report.tables.base import MINUS, NOTHING, Column, Entry, Table, interval_note, significant
from estbench.reproduce.card import Expectation, JudgedExpectation, ReproductionCard
from estbench.reproduce.card_result import FAILED, CardResult
from estbench.stats import Interval

NOT_RUN = "not run"
# What a reader should see first stands first.
ORDER = ("contradicted", "undecided", FAILED, "reproduced", NOT_RUN)
BRACKETS = (
    "Brackets: the 95 % interval, not corrected for the number of checks; for a crossing, the two places of the grid"
    " that it lies between. A number without brackets has no sampling error, or is the extreme of a whole grid."
)
RULE = (
    "A check is reproduced if all of its interval agrees with what is claimed, contradicted if none of it does, and"
    " undecided if the interval holds values of both kinds. A claim is contradicted if one of its checks is, undecided"
    " if one of them is and none is contradicted, and else reproduced."
)


class Claim(NamedTuple):
    """A card and its result; None if it was not run."""

    card: ReproductionCard
    result: CardResult | None

    @property
    def outcome(self) -> str:
        """The verdict of the result, or ``not run``."""
        return self.result.verdict if self.result else NOT_RUN

    @property
    def judged(self) -> tuple[JudgedExpectation, ...]:
        """Its checks, as far as they were measured."""
        return self.result.judged if self.result else ()

    @property
    def deciding(self) -> JudgedExpectation | None:
        """The first check that has the outcome of the claim."""
        return next((check for check in self.judged if check.verdict == self.outcome), None)


def pair_claims(cards: Iterable[ReproductionCard], results: Iterable[CardResult]) -> list[Claim]:
    """Return each card with its result, those first whose outcome a reader should see first.

    A result whose card is not among ``cards``, or measures something else today, is shown with the card that it had.
    """
    today = {card.name: card for card in cards}
    claims = {name: Claim(card, None) for name, card in today.items()}
    for result in results:
        card = today.get(result.card.name, result.card)
        if _protocol(card) != _protocol(result.card):
            card = result.card
        claims[card.name] = Claim(card, result)
    return sorted(claims.values(), key=lambda claim: (ORDER.index(claim.outcome), claim.card.name))


def count_outcomes(claims: Sequence[Claim]) -> str:
    """Return one sentence that says how many claims have each outcome."""
    counts = {outcome: sum(claim.outcome == outcome for claim in claims) for outcome in ORDER}
    first = counts.pop("reproduced")
    verb = "is" if len(claims) == 1 else "are"
    rest = "".join(f", {count} {outcome}" for outcome, count in counts.items() if count)
    return f"{first} of {count_noun(len(claims), 'claim')} {verb} reproduced{rest}."


def claims_table(claims: Sequence[Claim]) -> Table:
    """Return a row for each claim: its sentence, its outcome, and the number that decides it."""
    return Table(
        "reproductions",
        "Claims of the literature, put to the test",
        f"{RULE} The number is that of the first check with the outcome of the claim. {BRACKETS}",
        checks_data(claims),
        (Column("claim", numeric=False, head=True), Column("outcome", numeric=False), Column("measured")),
        tuple(
            (Entry(claim.card.claim, claim.card.name), Entry(claim.outcome, count_checks(claim)), _decide(claim))
            for claim in claims
        ),
    )


def names_table(claims: Sequence[Claim]) -> Table:
    """Return the short form that fits an article: the names of the cards in place of their sentences."""
    return Table(
        "reproductions",
        "Claims of the literature, put to the test",
        RULE,
        checks_data(claims),
        tuple(Column(title, numeric=False, head=title == "card") for title in ("card", "paper", "outcome", "checks")),
        tuple(
            (
                Entry(claim.card.name),
                Entry(claim.card.paper),
                Entry(claim.outcome),
                Entry(count_checks(claim) or NOTHING),
            )
            for claim in claims
        ),
    )


def checks_table(claims: Sequence[Claim]) -> Table:
    """Return a block for each claim with a row for each of its checks."""
    rows: list[tuple[Entry, ...]] = []
    rules = set()
    for claim in claims:
        rules.add(len(rows))
        for place, check in enumerate(_checks(claim)):
            rows.append(
                (
                    Entry(claim.card.name if place == 0 else ""),
                    Entry(check.expectation.quantity),
                    Entry(write_claimed(check.expectation)),
                    write_measured(check),
                    Entry(check.verdict if claim.judged else claim.outcome),
                )
            )
    return Table(
        "checks",
        "Every check",
        BRACKETS,
        checks_data(claims),
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


def checks_data(claims: Sequence[Claim]) -> pd.DataFrame:
    """Return the raw numbers of every check, with the outcome of its claim."""
    return pd.DataFrame(
        {
            "card": claim.card.name,
            "tier": claim.card.tier,
            "claim": claim.card.claim,
            "paper": claim.card.paper,
            "outcome_of_claim": claim.outcome,
            "check": check.expectation.quantity,
            "claimed": str(check.expectation),
            **dict(zip(("measured", "low", "high", "n"), check.measured, strict=True)),
            "outcome": check.verdict if claim.judged else claim.outcome,
            "seconds": claim.result.seconds if claim.result else math.nan,
            "finding": claim.card.finding,
        }
        for claim in claims
        for check in _checks(claim)
    )


def count_checks(claim: Claim) -> str:
    """Return how many checks have the outcome of the claim; nothing if none was measured."""
    same = sum(check.verdict == claim.outcome for check in claim.judged)
    return f"{same} of {count_noun(len(claim.judged), 'check')}" if claim.judged else ""


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


def _checks(claim: Claim) -> Sequence[JudgedExpectation]:
    """Return its checks, without numbers if none was measured."""
    unknown = Interval(math.nan, math.nan, math.nan, 0)
    return claim.judged or [JudgedExpectation(each, unknown) for each in claim.card.expect]


def _decide(claim: Claim) -> Entry:
    check = claim.deciding
    if check is None:
        return Entry(NOTHING)
    measured = write_measured(check)
    return Entry(
        measured.text, f"{measured.note}; {check.expectation.quantity}, claimed {write_claimed(check.expectation)}"
    )


def _write(value: float, expectation: Expectation) -> str:
    """Return a number with as many digits as it takes to see on which side of the claim's boundary it lies."""
    for digits in range(3, 9):
        text = f"{value:.{digits}g}"
        if all(float(text) != end or value == end for end in expectation.accepted):
            break
    return significant(value) if digits == 3 else text.replace("-", MINUS)
