"""Numbers and names as people read them."""

from __future__ import annotations

import math

import pytest

from estbench.report.analysis.wording import describe_common_problem, interval_note, short_problems
from estbench.stats import Interval

MNIST = "vae[dataset=mnist,hidden=[200]"


@pytest.mark.parametrize(
    ("labels", "names", "common"),
    [
        (
            [f"{MNIST},importance_samples=5]", f"{MNIST},importance_samples=50]"],
            ["K = 5", "K = 50"],
            f"All problems are {MNIST}]; K is the option importance_samples.",
        ),
        ([f"{MNIST}]", f"{MNIST},importance_samples=5]"], ["K = 1", "K = 5"], f"All problems are {MNIST}];"),
        (["vae", "vae[latent_size=5]"], ["latent_size = default", "latent_size = 5"], "All problems are vae."),
        (
            ["vae[dataset=mnist,hidden=[200]]", "vae[dataset=digits,hidden=[20,10]]"],
            ["dataset = mnist, hidden = [200]", "dataset = digits, hidden = [20,10]"],
            "All problems are vae.",
        ),
        (["vae[dataset=mnist]", "toy[size=3]", "toy[size=4]"], ["vae", "toy size = 3", "toy size = 4"], ""),
        (["vae[dataset=mnist]"], ["vae"], ""),
        (["two words", "vae"], ["two words", "vae"], ""),
        (["<script>", "vae[a=]"], ["<script>", "vae[a=]"], ""),
        (["vae[a=1]", "vae[ a = 1 ]"], ["vae[a=1]", "vae[ a = 1 ]"], "All problems are vae[a=1]."),
        ([], [], ""),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_problems_are_named_by_the_options_in_which_they_differ(labels, names, common):
    assert short_problems(labels) == dict(zip(labels, names, strict=True))
    assert describe_common_problem(labels).startswith(common)
    assert bool(describe_common_problem(labels)) == bool(common)


@pytest.mark.parametrize(
    ("interval", "unit", "note"),
    [
        (Interval(2, 1, 3, 5), "", "[1, 3], n = 5"),
        (Interval(2, 1, 3, 8), "rounds", "[1, 3], n = 8 rounds"),
        (Interval(2, math.nan, math.nan, 1), "", "1 seed"),
        (Interval(2, math.nan, math.nan, 2), "rounds", "2 rounds"),
    ],
)
def test_the_small_print_says_n_and_an_interval_only_where_there_is_one(interval, unit, note):
    assert interval_note(interval, f"{interval.low:.0f}", f"{interval.high:.0f}", unit) == note
