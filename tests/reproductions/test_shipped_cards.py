"""The shipped cards come out as they foresee: all of the first tier, and one of the second. No time is tested."""

from __future__ import annotations

import pytest

from estbench.reproduce import find_cards, run_card

pytestmark = pytest.mark.slow
SECONDS = find_cards((), ("seconds",))
# Of the cards that train: its margins are wide, so what fails it is a mistake and no bad luck.
MINUTES = find_cards(("logistic_regression_variances",), ())


def check(card):
    result = run_card(card)
    assert not result.error
    others = {
        judged.expectation.quantity: (str(judged.expectation), judged.measured)
        for judged in result.judged
        if judged.verdict != "reproduced"
    }
    assert result.as_expected, others
    assert result.measured.points, "a card without a figure"


@pytest.mark.parametrize("card", SECONDS, ids=lambda card: card.name)
def test_the_seconds_tier(card):
    check(card)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("card", MINUTES, ids=lambda card: card.name)
def test_a_card_of_the_minutes_tier(card):
    assert card.tier == "minutes"
    check(card)
