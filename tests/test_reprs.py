"""What a notebook shows of an object is one short line."""

from __future__ import annotations

import pytest
from records import write_results

from estbench import estimators, load, problems
from estbench.estimators import Estimator
from estbench.measure import Moments

LONGEST = 200


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (estimators, "rloo[num_samples=4]"),
        (estimators, "reparam"),
        (problems, "gaussian_toy[dimensions=3]"),
        (problems, "bernoulli_toy"),
    ],
    ids=str,
)
def test_an_instance_shows_how_it_is_written(module, text):
    assert repr(module.create(text)) == text


def test_a_class_without_a_name_shows_its_own():
    class Mine(Estimator):
        pass

    assert repr(Mine()) == "Mine"


def test_results_show_their_size_and_what_is_missing(tmp_path):
    write_results(tmp_path / "r", ["reparam", "stl"], 2, statuses={("stl", 1): None, ("stl", 0): "diverged"}, rounds=0)
    shown = repr(load(tmp_path / "r"))
    assert "2 estimators, 1 problem, 2 seeds; cells: 2 done, 1 diverged, 1 missing" in shown
    assert len(shown.replace(str(tmp_path), "")) < LONGEST


def test_no_path_steers_the_terminal(tmp_path):
    write_results(tmp_path / "\x1b[31m\u202e", ["reparam"], 1, replicates=0, rounds=0)
    assert not {"\x1b", "\u202e", "\n"} & set(repr(load(tmp_path / "\x1b[31m\u202e")))


def test_moments_show_what_was_measured_and_not_the_rows():
    row = {"space": "params", "group": "loc", "value": 1.0, "low": 1.0, "high": 1.0, "replicates": 9}
    rows = tuple({**row, "statistic": name} for name in ("variance", "snr") * 30)
    assert repr(Moments(rows, warnings=("snr",))) == "Moments(60 rows; of params: variance, snr; 1 to distrust)"
