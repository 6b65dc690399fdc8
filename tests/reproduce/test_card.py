"""Cards are read strictly, and a verdict is about the whole interval."""

from __future__ import annotations

import math

import pytest
from counting import CARD

from estbench.errors import EstbenchError
from estbench.reproduce import Expectation, find_cards, read_card, shipped_cards
from estbench.stats import Interval


@pytest.fixture
def write(tmp_path):
    def build(text=CARD, name="counting.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return build


def expectation(relation, value, tolerance=None):
    return Expectation(quantity="q", relation=relation, value=value, tolerance=tolerance, source="s")


@pytest.mark.parametrize(
    ("expected", "low", "high", "verdict"),
    [
        (expectation("less", 1.0), 0.5, 0.9, "reproduced"),
        (expectation("less", 1.0), 0.5, 1.1, "undecided"),
        (expectation("less", 1.0), 1.1, 1.3, "contradicted"),
        (expectation("greater", 1.0), 1.1, 1.3, "reproduced"),
        (expectation("greater", 1.0), 0.9, 1.3, "undecided"),
        (expectation("greater", 1.0), 0.1, 0.3, "contradicted"),
        (expectation("equals", 1.0, 0.2), 0.9, 1.1, "reproduced"),
        (expectation("equals", 1.0, 0.2), 0.7, 1.1, "undecided"),
        (expectation("equals", 1.0, 0.2), -9.0, 9.0, "undecided"),
        (expectation("equals", 1.0, 0.2), 1.3, 1.4, "contradicted"),
        (expectation("less", 1.0), math.nan, math.nan, "undecided"),
        (expectation("less", 1.0), -math.inf, 0.5, "undecided"),
        # A number without sampling error, or the extreme of a whole grid.
        (expectation("less", 5.0), 2.48, 2.48, "reproduced"),
        (expectation("less", 5.0), 5.01, 5.01, "contradicted"),
        (expectation("greater", 1e-6), 0.03, 0.03, "reproduced"),
        (expectation("greater", 1e-6), 1e-15, 1e-15, "contradicted"),
        # The two places of a grid that a crossing lies between.
        (expectation("equals", 1.064, 0.14), 1.0, 1.2, "reproduced"),
        (expectation("equals", 1.064, 0.14), 1.2, 1.5, "undecided"),
        (expectation("equals", 1.064, 0.14), 1.5, 2.0, "contradicted"),
    ],
)
def test_a_verdict_is_about_the_whole_interval(expected, low, high, verdict):
    middle = (low + high) / 2
    assert expected.verdict(Interval(middle, low, high, 10)) == verdict


def test_a_card_is_named_by_its_file(write):
    card = read_card(write())
    assert (card.name, card.tier, card.verdict) == ("counting", "seconds", "reproduced")
    assert str(card.expect[0]) == "< 2"


def test_reading_a_card_runs_nothing(write, tmp_path):
    (tmp_path / "counting.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    assert read_card(write()).study == "counting"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('tier = "seconds"', 'tier = "hours"', "tier: input should be 'seconds', 'minutes', 'gpu' or 'cluster'"),
        ('paper = "williams1992"', 'paper = "wiliams1992"', "unknown paper 'wiliams1992'; did you mean 'williams1992'"),
        ('claim = "One is less than two."', "", "claim: is required"),
        ("value = 2.0", "value = 2.0\ntolerance = 0.1", "the other relations take none"),
        ('relation = "less"', 'relation = "equals"', "needs a tolerance"),
        *(
            ('tier = "seconds"', f'tier = "seconds"\nverdict = "{verdict}"', "finding' says what was found")
            for verdict in ("contradicted", "undecided")
        ),
        ('tier = "seconds"', 'tier = "seconds"\nfinding = "It was more."', "finding' says what was found"),
        ('tier = "seconds"', 'tier = "seconds"\nverdict = "failed"', "'reproduced', 'contradicted' or 'undecided'"),
        ('source = "arithmetic"', "", "source: is required"),
        ("value = 2.0", "value = nan", "finite number"),
        ("deviations = []", "deviations = []\ndeviation = []", "unknown key 'deviation'; did you mean 'deviations'"),
        ("[[expect]]", "[[expect]", "is not valid TOML"),
        ('study = "counting"', "", "study: is required"),
        *(
            ('study = "counting"', f'study = "{name}"', "study: takes the name of a Python file beside the card")
            for name in ("../counting", "/counting", "counting.py", "folder/counting", "_helper", "", "..")
        ),
    ],
)
def test_a_mistake_in_a_card_is_one_line_that_names_it(write, old, new, message):
    path = write(CARD.replace(old, new))
    with pytest.raises(EstbenchError) as error:
        read_card(path)
    assert "counting.toml" in str(error.value)
    assert message in str(error.value)


def test_a_missing_card_says_where_to_look(tmp_path):
    with pytest.raises(EstbenchError, match=r"no card '.*none\.toml'; see `estbench reproduce --list`"):
        read_card(tmp_path / "none.toml")
    with pytest.raises(EstbenchError, match="no card 'no-such-card'"):
        find_cards(("no-such-card",), ())


def test_every_shipped_card_is_valid():
    assert len(shipped_cards()) == len(find_cards((), ("seconds", "minutes", "gpu", "cluster")))
