"""``estbench compare``: a table, a verdict, JSON, and mistakes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from records import write_results

from estbench.stats import paired_ratio
from estbench.store import load

RLOO = "rloo[num_samples=4]"


@pytest.fixture
def compared(here):
    """Three estimators over four seeds."""
    return write_results(here / "r", ["reparam", "stl", RLOO], 4, evaluation={"every": 20})


def test_compare_shows_both_and_says_who_wins(estbench, compared):
    code, said, errors = estbench("compare", "r", "reparam", RLOO)
    assert (code, errors) == (0, "")
    for quantity in ("final test ELBO", "final test IWAE-", "training seconds to ", "gradient variance, encoder"):
        assert f"\n{quantity}" in said
    assert f" {RLOO}  " in said  # brackets are no markup
    assert "n = 8 rounds" in said
    bound, time, empty = said.splitlines()[:3]
    assert empty == ""
    assert bound.startswith("reparam ends ")
    assert f"nats above {RLOO} (n = 4, 95 % " in bound
    assert " times sooner (training seconds) than " in time


def test_the_order_of_the_two_turns_the_signs_and_not_the_verdict(estbench, compared):
    forth, back = (json.loads(estbench("compare", "r", *pair, "--json").out) for pair in (("stl", RLOO), (RLOO, "stl")))
    assert [verdict["text"] for verdict in forth["verdicts"]] == [verdict["text"] for verdict in back["verdicts"]]
    for one, other in zip(forth["comparisons"], back["comparisons"], strict=True):
        assert one["quantity"] == other["quantity"]
        turned = -other["comparison"] if one["compared_by"] == "difference" else 1 / other["comparison"]
        assert one["comparison"] == pytest.approx(turned)
        assert one["first"] == other["second"]


def test_compare_for_programs_has_the_numbers(estbench, compared):
    code, said, errors = estbench("compare", "r", "stl", "reparam", "--json")
    assert (code, errors) == (0, "")
    answer = json.loads(said)
    rows = {row["quantity"]: row for row in answer["comparisons"]}
    results = load(compared)
    seconds = results.throughput.pivot_table(index="round", columns="estimator", values="seconds")
    ratio = paired_ratio(seconds["reparam"], seconds["stl"])
    found = rows["training examples per second"]
    assert [found[f"comparison{end}"] for end in ("", "_low", "_high", "_n")] == pytest.approx(list(ratio))
    last = results.gradients.query("step == 2000 and statistic == 'variance' and group == 'encoder'")
    last = last.pivot_table(index="seed", columns="estimator", values="value")
    found = rows["gradient variance, encoder (weights), step 2,000"]
    assert found["comparison"] == pytest.approx(np.exp(np.log(last["stl"] / last["reparam"]).mean()))
    assert {verdict["kind"] for verdict in answer["verdicts"]} == {"bound", "time"}
    assert answer["verdicts"][0]["evidence"]["n"] == 4


def test_what_is_not_there_is_null(estbench, compared):
    answer = json.loads(
        estbench("compare", "r", "stl", RLOO, "--target", -10, "--json").out, parse_constant=pytest.fail
    )
    (row,) = [row for row in answer["comparisons"] if row["quantity"].startswith("steps to ")]
    assert (row["first"], row["comparison"]) == (None, None)
    assert "missed" in estbench("compare", "r", "stl", RLOO, "--target", -10).out


def test_a_target_is_taken(estbench, compared):
    assert "reaches \N{MINUS SIGN}150.00 nats" in estbench("compare", "r", "stl", RLOO, "--target", -150).out


def test_partial_records_do_not_crash(estbench, here):
    lost = {("stl", seed): None for seed in range(2)}
    write_results(here / "r", ["reparam", "stl"], 2, statuses=lost, rounds=0, replicates=0)
    code, said, errors = estbench("compare", "r", "reparam", "stl")
    assert (code, errors) == (0, "")
    assert "stl has no final test bound to compare (2 missing)." in said
    assert "nan" not in said
    assert math.isfinite(
        json.loads(estbench("compare", "r", "reparam", "stl", "--json").out)["comparisons"][0]["first"]
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["r", "reparm", "stl"], "no estimator 'reparm' in 'r'; did you mean 'reparam'? known: reparam, rloo"),
        (["r", "stl", "stl"], "'stl' is given twice; name two estimators of: reparam, stl"),
        (["r", RLOO, "rloo[num_samples = 4]"], f"'{RLOO}' is given twice"),
        (["r", "stl"], "Missing argument 'B'"),
        (["none", "reparam", "stl"], "'none' is no results folder"),
        (["r", "reparam", "stl", "--target", "nan"], "--target takes a number of nats, not nan"),
        (["r", "reparam", "stl", "--target", "high"], "'high' is not a valid float"),
    ],
)
def test_mistakes_are_one_line(refused, compared, arguments, complaint):
    assert complaint in refused("compare", *arguments)
