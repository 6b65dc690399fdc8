"""The fixed part of a step's time: the fit, the knee, the rule, and what is said of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from records import FIXED, analyse, write_results

from estbench.report.analysis.launches import StepTime, describe_launches, fit_step_time


@pytest.mark.parametrize("sizes", [(100, 1000), (16, 100, 1000), (10, 100, 1000, 10_000)])
@pytest.mark.parametrize(("fixed", "growing"), [(2e-3, 1e-5), (1e-6, 3e-4), (0.5, 1e-9), (3e-3, 0.0), (0.0, 2e-5)])
def test_a_line_is_found_again(sizes, fixed, growing):
    found = fit_step_time(sizes, [fixed + growing * size for size in sizes])
    assert found == pytest.approx((fixed, growing), rel=1e-6, abs=1e-13)


def test_neither_part_is_negative_and_the_better_one_is_left():
    slower = fit_step_time([100, 1000], [1e-3, 2e-2])  # more than in proportion
    assert slower.fixed == 0
    faster = fit_step_time([100, 1000], [2e-3, 1e-3])
    assert faster.growing == 0
    for found, sizes, seconds in ((slower, [100, 1000], [1e-3, 2e-2]), (faster, [100, 1000], [2e-3, 1e-3])):
        best = min(
            sum((a / t + b * s / t - 1) ** 2 for s, t in zip(sizes, seconds, strict=True))
            for a in np.linspace(0, 3e-3, 200)
            for b in np.linspace(0, 3e-5, 200)
        )
        error = sum((found.fixed / t + found.growing * s / t - 1) ** 2 for s, t in zip(sizes, seconds, strict=True))
        assert error <= best + 1e-9


def test_the_knee_is_where_both_parts_are_equal_and_half_of_the_highest_rate_is_reached():
    time = StepTime(fixed=2e-3, growing=1e-5)
    assert time.knee == pytest.approx(200)
    assert time.fixed_share(time.knee) == pytest.approx(0.5)
    assert time.knee / (time.fixed + time.growing * time.knee) == pytest.approx(0.5 / time.growing)
    assert StepTime(1.0, 0.0).knee == math.inf
    assert StepTime(0.0, 1.0).knee == 0


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    throughput = {"rounds": 5, "batch_sizes": [10, 1000], "modes": ["eager", "compiled"]}
    path = tmp_path_factory.mktemp("sized") / "r"
    return analyse(write_results(path, ["reparam", "stl"], 1, throughput=throughput))


def test_growth_is_found_from_the_rounds_of_each_mode(sized):
    found = {(growth.estimator, growth.mode) for growth in sized.growths}
    assert found == {(label, mode) for label in ("reparam", "stl") for mode in ("compiled", "eager")}
    assert len(sized.growths) == 4
    for growth in sized.growths:
        assert growth.sizes == (10, 100, 1000)
        assert growth.time.knee == pytest.approx(100 * FIXED / (1 - FIXED), rel=1e-6)
        assert growth.launch_bound == [10, 100]
        assert growth.knee.n == 5
        assert growth.write_knee() == "300"


def test_launch_bound_sizes_are_said_once_and_only_of_eager_steps(sized):
    (line,) = describe_launches(sized.growths)
    assert "with 10 and 100 examples in a step (cpu), most of the time of every estimator does not grow" in line
    assert line in sized.notices
    assert describe_launches([growth for growth in sized.growths if growth.mode == "compiled"]) == []


def test_an_estimator_that_is_not_launch_bound_is_not_named(sized):
    first, *others = (growth for growth in sized.growths if growth.mode == "eager")
    busy = first._replace(time=StepTime(1e-4, 1e-4))
    (line,) = describe_launches([busy, *others])
    assert f"most of the time of {others[0].estimator} does not grow" in line


@pytest.mark.parametrize(
    ("time", "written"),
    [(StepTime(1e-3, 1e-3), "below 10"), (StepTime(1.0, 1e-9), "above 1,000"), (StepTime(0.2, 1e-3), "200")],
)
def test_a_knee_outside_the_sizes_is_not_given_a_number(sized, time, written):
    assert sized.growths[0]._replace(time=time).write_knee() == written


def test_one_size_has_no_growth(tmp_path):
    analysis = analyse(write_results(tmp_path / "r", ["reparam"], 1, throughput={"rounds": 3}))
    assert analysis.growths == []
    assert not [line for line in analysis.notices if "Launch-bound" in line]
