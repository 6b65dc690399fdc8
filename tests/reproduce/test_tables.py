"""Claims in tables: counted, in the order of their outcomes, and no interval where there is none."""

from __future__ import annotations

import pytest
from counting import CARD

from estbench.reproduce import CardResult, StudyResult, read_card
from estbench.reproduce.tables import checks_table, claims_table, count_outcomes, pair_claims
from estbench.stats import Interval

AT = {"reproduced": 1.0, "undecided": 2.0, "contradicted": 3.0}


@pytest.fixture
def claims(tmp_path):
    def build(*outcomes, half=0.5):
        results = []
        for place, outcome in enumerate(outcomes):
            path = tmp_path / f"card{place}.toml"
            path.write_text(CARD, encoding="utf-8")
            measured = None
            if outcome in AT:
                value = AT[outcome]
                measured = StudyResult({"one": Interval(value, value - half, value + half, 7)})
            results.append(CardResult(read_card(path), measured, 1.0, "" if measured else "it broke"))
        return pair_claims([result.card for result in results], results)

    return build


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        (["reproduced"], "1 of 1 claim is reproduced."),
        (["contradicted"], "0 of 1 claim is reproduced, 1 contradicted."),
        (["reproduced", "undecided", "reproduced"], "2 of 3 claims are reproduced, 1 undecided."),
        (
            ["failed", "reproduced", "undecided", "contradicted", "contradicted"],
            "1 of 5 claims are reproduced, 2 contradicted, 1 undecided, 1 failed.",
        ),
    ],
)
def test_one_sentence_counts_the_outcomes(claims, outcomes, sentence):
    assert count_outcomes(claims(*outcomes)) == sentence


def test_what_a_reader_should_see_first_stands_first(claims):
    made = claims("reproduced", "failed", "undecided", "contradicted")
    order = ["contradicted", "undecided", "failed", "reproduced"]
    assert [claim.outcome for claim in made] == order
    assert [row[1].text for row in claims_table(made).rows] == order


@pytest.mark.parametrize(("half", "brackets"), [(0.5, True), (0.0, False)])
def test_an_interval_of_no_width_is_not_shown(claims, half, brackets):
    (row,) = checks_table(claims("reproduced", half=half)).rows
    assert ("[" in row[3].note) == brackets
    assert "7" in row[3].note


@pytest.mark.parametrize("value", [1.9999, 2.00004])
def test_a_number_is_seen_on_its_side_of_the_boundary(claims, tmp_path, value):
    card = claims("reproduced")[0].card
    result = CardResult(card, StudyResult({"one": Interval(value, value, value, 7)}), 1.0)
    (row,) = checks_table(pair_claims([card], [result])).rows
    assert (float(row[3].text) < 2) == (value < 2)
