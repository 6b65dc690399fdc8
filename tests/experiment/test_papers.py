"""The experiments at the papers' settings are possible, and a short variant is its long one, cut."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from estbench.execution.planning import plan_of
from estbench.experiment import read_experiment

PAPERS = Path(__file__).parents[2] / "experiments" / "papers"
FILES = sorted(PAPERS.glob("*.toml"))
LONG = [path for path in FILES if not path.stem.endswith("_short")]


def beginning(path):
    """The comment that a file begins with, on one line."""
    lines = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))[0].splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_possible_and_says_what_it_asks_and_expects(path):
    experiment = read_experiment(path)
    assert experiment.name == path.stem
    assert experiment.question.endswith("?")
    assert len(experiment.expect) > 20
    assert len(plan_of(experiment)) >= len(experiment.estimators) * len(experiment.problems)


@pytest.mark.parametrize("path", LONG, ids=lambda path: path.stem)
def test_it_names_its_paper_and_its_deviations(path):
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", beginning(path).partition("Deviations:")[0])
    assert beginning(path).partition("Deviations:")[2].count(" - ") >= 3


@pytest.mark.parametrize("path", LONG, ids=lambda path: path.stem)
def test_its_short_variant_is_the_same_protocol_cut_and_says_so(path):
    short_path = path.with_name(f"{path.stem}_short.toml")
    long, short = read_experiment(path), read_experiment(short_path)
    assert short.question.startswith("In short (")
    assert f"The short variant of {path.name}" in beginning(short_path)
    assert "Cut: " in beginning(short_path)
    assert f"{long.training.steps:,}" in beginning(short_path)
    assert f"{short.training.steps:,} steps" in beginning(short_path)
    assert short.estimators == long.estimators
    assert set(short.problems) <= set(long.problems)
    assert set(short.seeds) <= set(long.seeds)
    assert short.training == long.training.model_copy(update={"steps": short.training.steps})
    assert short.evaluation.num_samples == long.evaluation.num_samples
    assert {name: set(values) <= set(long.sweep[name]) for name, values in short.sweep.items()} == dict.fromkeys(
        long.sweep, True
    )


def test_each_stands_in_the_table():
    table = (PAPERS / "README.md").read_text(encoding="utf-8")
    assert sorted(set(re.findall(r"\]\(([a-z_]+\.toml)\)", table))) == [path.name for path in FILES]
