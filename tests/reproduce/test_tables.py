"""Claims in tables: counted, in the order of their outcomes, and no interval where there is none."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
from counting import CARD

from estbench.report.tables.base import NOTHING
from estbench.reproduce import CardResult, StudyResult, find_cards, read_card
from estbench.reproduce.card import TIERS
from estbench.reproduce.results import read_results
from estbench.reproduce.tables import checks_table, claims_table, count_outcomes, names_table, sort_results
from estbench.stats import Interval

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "results" / "reproductions"
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
        return sort_results(results, [])

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
    assert [result.verdict for result in made] == order
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
    (row,) = checks_table([result]).rows
    assert (float(row[3].text) < 2) == (value < 2)


@pytest.mark.parametrize(
    ("outcomes", "deciding", "counted"),
    [
        ("reproduced reproduced", 0, "2 of 2 checks"),
        ("reproduced undecided reproduced", 1, "1 of 3 checks"),
        ("undecided contradicted contradicted", 1, "2 of 3 checks"),
        ("contradicted", 0, "1 of 1 check"),
    ],
)
def test_a_claim_has_the_number_of_the_first_check_with_its_outcome(claims, outcomes, deciding, counted):
    (card,) = [result.card for result in claims("reproduced")]
    checks = {f"q{at}": AT[outcome] for at, outcome in enumerate(outcomes.split())}
    expect = tuple(card.expect[0].model_copy(update={"quantity": name}) for name in checks)
    quantities = {name: Interval(value, value - 0.5, value + 0.5, 7) for name, value in checks.items()}
    result = CardResult(card.model_copy(update={"expect": expect}), StudyResult(quantities), 1.0)
    ((_, outcome, number),) = claims_table([result]).rows
    assert outcome.note == counted
    assert f"q{deciding}, claimed < 2" in number.note
    assert number.text == f"{AT[outcome.text]:.2f}"


def test_what_is_not_finite_is_undecided_and_has_no_number(claims):
    card = claims("reproduced")[0].card
    (row,) = claims_table([CardResult(card, StudyResult({"one": Interval(*[math.nan] * 3, 0)}), 1.0)]).rows
    assert (row[1].text, row[2].text) == ("undecided", NOTHING)


def test_a_result_of_another_protocol_keeps_the_card_that_it_had(claims):
    (result,) = claims("reproduced")
    reworded = result.card.model_copy(update={"claim": "Other words."})
    (other,) = sort_results([result], [reworded])
    assert other.card.claim == "Other words."
    (other,) = sort_results([result], [reworded.model_copy(update={"options": {"to": 3}})])
    assert other.card is result.card


def test_the_committed_outcomes_are_those_of_their_numbers_and_of_the_words_of_their_cards():
    warnings = []
    results = sort_results(read_results(COMMITTED, warnings.append), find_cards((), TIERS))
    assert warnings == []
    for result in results:
        record = json.loads((COMMITTED / "cards" / f"{result.card.name}.json").read_text(encoding="utf-8"))
        assert result.verdict == result.card.verdict == record["verdict"]
        assert [each["verdict"] for each in record["expectations"]] == [check.verdict for check in result.judged]
    for ending in ("html", "md"):
        assert count_outcomes(results) in (COMMITTED / f"reproductions.{ending}").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_the_short_form_fits_a_page(tmp_path):
    table = names_table(read_results(COMMITTED, print)).to_latex()
    text = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{table}\end{{document}}"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stdout
    assert "Overfull" not in run.stdout
