"""Clocks and throughput, on a clock that the test turns by hand."""

from __future__ import annotations

import pytest
import torch

from estbench.measure import Clocks, measure_throughput, timing

CPU = torch.device("cpu")


class FakeTime:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(timing, "time", fake)
    monkeypatch.setattr(timing, "time", fake)
    return fake


def test_each_clock_adds_up_its_own_time(time):
    running = Clocks(CPU)
    for name, seconds in (("training", 2.0), ("evaluation", 0.5), ("training", 3.0), ("probe", 1.0)):
        with running(name):
            time.now += seconds
        time.now += 10.0  # between two clocks no clock runs
    assert running.seconds == {"training": 5.0, "evaluation": 0.5, "probe": 1.0, "writing": 0.0}


def test_clocks_go_on_from_the_seconds_they_are_given(time):
    given = {"training": 7.0, "writing": 1.0}
    running = Clocks(CPU, given)
    with running("training"):
        time.now += 2.0
    assert running.seconds == {"training": 9.0, "evaluation": 0.0, "probe": 0.0, "writing": 1.0}
    assert given == {"training": 7.0, "writing": 1.0}


def test_a_clock_stops_where_an_error_leaves_it(time):
    def fail():
        time.now += 4.0
        raise KeyboardInterrupt

    running = Clocks(CPU)
    with pytest.raises(KeyboardInterrupt), running("probe"):
        fail()
    assert running.seconds["probe"] == 4.0


def runners_that_take(time, **seconds):
    """Runners of known seconds per step, and the log of what ran."""
    log = []

    def make(label):
        def take_steps(steps):
            log.append((label, steps))
            time.now += seconds[label] * steps

        return take_steps

    return {label: make(label) for label in seconds}, log


def test_rounds_are_interleaved_and_rotated_after_an_uncounted_warm_up(time):
    runners, log = runners_that_take(time, a=1.0, b=2.0, c=3.0)
    rows = measure_throughput(runners, rounds=4, steps=5, device=CPU)
    order = [label for label, _ in log]
    assert order[:3] == ["a", "b", "c"]  # the warm-up
    assert order[3:] == [*"abc", *"bca", *"cab", *"abc"]
    assert {steps for _, steps in log} == {5}
    assert [row["estimator"] for row in rows] == order[3:]
    assert [row["round"] for row in rows] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert {(row["estimator"], row["seconds"]) for row in rows} == {("a", 5.0), ("b", 10.0), ("c", 15.0)}
    assert {key for row in rows for key in row} == {"round", "estimator", "seconds", "peak_memory_bytes"}


def test_a_drift_that_all_share_cancels_in_the_ratio_within_a_round(time):
    """A machine that gets slower from round to round: what is compared within a round stays the same."""
    speed = {"now": 1.0}
    log = []

    def make(cost):
        def take_steps(steps):
            log.append(cost)
            time.now += cost * steps * speed["now"]
            if len(log) % 2 == 0:  # two runners: a round is over
                speed["now"] *= 1.5

        return take_steps

    rows = measure_throughput({"a": make(1.0), "b": make(2.0)}, rounds=5, steps=3, device=CPU)
    seconds = {(row["round"], row["estimator"]): row["seconds"] for row in rows}
    assert [seconds[index, "b"] / seconds[index, "a"] for index in range(5)] == pytest.approx([2.0] * 5)
    assert seconds[4, "a"] > 5 * seconds[0, "a"]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_measurement_has_no_rows(time, after):
    runners, log = runners_that_take(time, a=1.0, b=2.0)
    checks = iter([False] * after + [True] * 10)
    assert measure_throughput(runners, rounds=3, steps=1, device=CPU, interrupted=lambda: next(checks)) == []
    assert len(log) == 2 * (1 + after)


def test_peak_memory_is_that_of_the_runners_first_call_or_unknown():
    """64 MiB that one of them takes, and gives back: the other is not charged for them."""
    runners = {"large": lambda _: torch.ones(2**24).sum(), "small": lambda _: torch.ones(2**10).sum()}
    rows = measure_throughput(runners, rounds=1, steps=1, device=CPU)
    peaks = {row["estimator"]: row["peak_memory_bytes"] for row in rows}
    if peaks["large"] is not None:
        assert peaks["large"] > 0.9 * 2**26
        assert peaks["small"] < 2**24
