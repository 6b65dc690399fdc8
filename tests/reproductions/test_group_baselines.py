"""What a group's baseline does to the mean gradient: formulas by brute force, and the page that shows the numbers."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from pages import text_of
from shipped_studies import load

from estbench.errors import EstbenchError
from estbench.reproduce import Expectation, find_cards

STUDY = load("group_baselines")
OPTIONS = {
    "samples": [2, 3],
    "chances": [0.1, 0.5],
    "rewards": [0.0, 1.0, 10.0],
    "probabilities": [0.5, 0.45, 0.05],
}


def verdict(result, quantity, relation, value):
    expectation = Expectation(quantity=quantity, relation=relation, value=value, source="s")
    return expectation.verdict(result.quantities[quantity])


@pytest.mark.parametrize("chance", [0.03, 0.5, 0.8])
@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_the_weight_of_a_question_is_that_of_all_groups(count, chance):
    """One bit, of reward and score b - p: the mean of the estimate over 2^K groups, relative to p (1 - p)."""
    total = 0.0
    for group in itertools.product((0.0, 1.0), repeat=count):
        bits = torch.tensor(group, dtype=torch.float64)
        if 0 < bits.sum() < count:
            estimate = ((bits - bits.mean()) / bits.std() * (bits - chance)).mean()
            total += float(estimate) * chance ** float(bits.sum()) * (1 - chance) ** float(count - bits.sum())
    weight = float(STUDY.question_weight(count, torch.tensor(chance, dtype=torch.float64)))
    assert weight == pytest.approx(total / (chance * (1 - chance)), rel=1e-12)


@pytest.mark.parametrize("chance", [0.1, 0.5])
def test_in_large_groups_the_weight_is_one_over_the_deviation(chance):
    weight = float(STUDY.question_weight(20_000, torch.tensor(chance, dtype=torch.float64)))
    assert weight == pytest.approx(1 / math.sqrt(chance * (1 - chance)), rel=1e-3)


def test_the_baselines_are_told_apart():
    result = STUDY.group_baselines(OPTIONS)
    for name in STUDY.VARIANTS:
        assert verdict(result, f"{name}: largest distance from the derived mean", "less", 1e-10) == "reproduced"
    assert result.quantities["group mean, graded, K = 3: length"].value == pytest.approx(2 / 3)
    assert verdict(result, "group mean / deviation, graded, K = 3: cosine", "less", 0.9) == "reproduced"
    assert verdict(result, "group mean / deviation, graded, K = 3: cosine", "greater", 0.9) == "contradicted"


def test_a_wrong_formula_is_contradicted(monkeypatch):
    monkeypatch.setattr(STUDY, "question_weight", lambda count, chance: (chance * (1 - chance)).rsqrt())
    result = STUDY.group_baselines(OPTIONS)
    quantity = "group mean / deviation: largest distance from the derived mean"
    assert verdict(result, quantity, "less", 1e-10) == "contradicted"


@pytest.mark.parametrize("changed", [{"samples": [9]}, {"samples": [1]}, {"chances": [0.5]}, {"chances": [0.0, 0.5]}])
def test_a_mistake_is_one_line(changed):
    with pytest.raises(EstbenchError, match="options of the study 'group_baselines'"):
        STUDY.group_baselines({**OPTIONS, **changed})


def test_the_page_has_the_numbers_of_the_card():
    """Every row of its tables, to the digits that it shows."""
    (card,) = find_cards(("group_baselines",), ())
    quantities = STUDY.group_baselines(card.options).quantities
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in text_of("docs/measures/group_baselines.md").splitlines()
        if re.match(r"\| \d", line)
    ]
    lengths = [row for row in rows if len(row) == 6]
    weights = [row for row in rows if len(row) == 4]
    assert [int(row[0]) for row in lengths] == [2, 3, 4, 6, 8]
    for samples, *cells in lengths:
        expected = [
            f"{quantities[f'{name}, {kind}, K = {samples}: {part}'].value:.3f}"
            for kind, name, part in (
                ("graded", "group mean", "length"),
                ("right or wrong", "group mean / deviation", "length"),
                ("right or wrong", "group mean / deviation", "cosine"),
                ("graded", "group mean / deviation", "length"),
                ("graded", "group mean / deviation", "cosine"),
            )
        ]
        assert cells == expected
    assert [int(row[0]) for row in weights] == [2, 3, 4, 8, 16, 64]
    for samples, *cells in weights:
        expected = [
            f"{quantities[f'weight of chance {chance}, K = {samples}'].value:.2f}" for chance in (0.02, 0.1, 0.5)
        ]
        assert cells == expected
