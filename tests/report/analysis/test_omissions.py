"""Whatever was asked for and is in no table is named, with its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from records import analyse

from estbench.report.analysis.omissions import omissions, remarks


@pytest.fixture
def analysis(tiny, tmp_path):
    """A finished run of two estimators, whose tables a test may change."""
    import estbench

    estbench.run({**tiny, "estimators": ["reparam", "stl"]}, out=tmp_path / "r")
    found = analyse(tmp_path / "r")
    assert len(found.results.gradients)
    return found


@pytest.mark.slow
def test_nothing_is_said_where_nothing_is_missing(analysis):
    assert omissions(analysis) == []


def test_a_probe_that_is_not_finite_is_named(analysis):
    analysis.results.gradients.loc[analysis.results.gradients["estimator"] == "stl", "value"] = np.nan
    (line,) = omissions(analysis)
    assert "gradient variance of stl" in line
    assert "finite" in line


def test_a_probe_that_is_not_there_is_named(analysis):
    frame = analysis.results.gradients
    vars(analysis.results)["gradients"] = frame[frame["estimator"] == "reparam"]
    (line,) = omissions(analysis)
    assert "recorded of stl" in line


def test_timings_that_are_not_finite_are_named(analysis):
    rows = {"estimator": ["reparam", "stl"], "seconds": [1.0, np.inf]}
    vars(analysis.results)["throughput"] = pd.DataFrame(rows)
    (line,) = omissions(analysis)
    assert "throughput of stl" in line


def test_a_remark_of_many_cells_is_said_once_with_their_number():
    remark = {"step": 3, "measurement": "probe", "message": "took the loop: a module of its own."}
    records = [{"remarks": [{**remark, "step": step}, remark]} for step in range(50)]
    assert remarks(records) == ["probe: took the loop: a module of its own (50 cells)."]


@pytest.mark.parametrize("odd", [None, 3, "text", [3, None], [{}], {"a": 1}], ids=str)
def test_a_record_may_hold_anything(odd):
    assert len(remarks([{"remarks": odd}])) <= 1


def test_a_list_of_remarks_is_bounded():
    records = [{"remarks": [{"measurement": "probe", "message": str(count)}]} for count in range(100)]
    lines = remarks(records)
    assert len(lines) == 11
    assert "90 further" in lines[-1]
