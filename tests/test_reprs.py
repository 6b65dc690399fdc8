"""What a notebook shows of an object is one short line."""

from __future__ import annotations

import pytest
from records import write_results
from torch import nn

from estbench import estimators, load, problems
from estbench.estimators import Estimator
from estbench.measure import Moments

LONGEST = 200


@pytest.mark.parametrize("text", ["rloo[num_samples=4]", "reparam", "reinforce[baseline=nvil]"])
def test_an_estimator_is_how_it_is_written(text):
    assert repr(estimators.create(text)) == text


def test_a_problem_shows_how_it_is_written_and_its_sizes():
    problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    weights = sum(each.numel() for each in problem.parameters())
    assert "vae[dataset=digits,latent_size=2,hidden=[8]]: 1,397 training examples of 8 x 8" in repr(problem)
    assert repr(problem).endswith(f" {weights:,} weights")
    assert "Linear" in nn.Module.__repr__(problem)


@pytest.mark.parametrize("registry", [estimators, problems], ids=["estimators", "problems"])
def test_whatever_is_registered_has_one_short_line(registry):
    for name in registry.names():
        shown = repr(registry.create(name))
        assert shown.startswith(name)
        assert "\n" not in shown
        assert len(shown) < LONGEST


def test_a_class_without_a_name_shows_its_own():
    class Mine(Estimator):
        pass

    assert repr(Mine()) == "Mine"


def test_results_show_what_they_hold_and_what_is_missing(tmp_path):
    write_results(tmp_path / "r", ["reparam", "stl"], 2, statuses={("stl", 1): None, ("stl", 0): "diverged"}, rounds=0)
    first, *others = repr(load(tmp_path / "r")).splitlines()
    assert first == f"Results 'comparison' in '{tmp_path / 'r'}': 2 of 4 runs done, 1 diverged, 1 missing"
    assert others == ["  2 estimators: reparam, stl", "  1 problem: vae"]


def test_many_labels_are_counted(tmp_path):
    problems = [f"vae[latent_size={at}]" for at in range(1, 21)]
    write_results(tmp_path / "r", ["reparam"], 1, problems=problems, replicates=0, rounds=0)
    shown = repr(load(tmp_path / "r"))
    assert "20 problems" in shown
    assert shown.endswith("and 10 more")


def test_no_string_of_a_record_steers_the_terminal(tmp_path):
    path = tmp_path / "\x1b[31m\u202e"
    write_results(path, ["reparam"], 1, labels={"reparam": "\x1b[2J" + "x" * 10_000}, replicates=0, rounds=0)
    shown = repr(load(path))
    assert not {"\x1b", "\u202e"} & set(shown)
    assert len(shown) < LONGEST + len(str(tmp_path)) + 100


def test_moments_show_what_was_measured_and_not_the_rows():
    row = {"space": "params", "group": "loc", "value": 1.0, "low": 1.0, "high": 1.0, "replicates": 9}
    rows = tuple({**row, "statistic": name} for name in ("variance", "snr") * 30)
    moments = Moments(rows, warnings=("snr",))
    assert repr(moments) == "Moments(variance, snr of params loc; 9 draws; 1 to distrust; see .table)"
    assert moments._repr_html_().count("<tr") == 61
