"""What changed between two results: pairs of runs, verdicts, and the rate of false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import records
from oracles.z_scores import largest_z
from records import write_results

from estbench.errors import EstbenchError
from estbench.experiment import content_hash
from estbench.report.analysis.changes import (
    BETTER,
    NO_RATIO,
    NOT_JUDGED,
    NOTHING_SHOWN,
    REGRESSION,
    SAME,
    TOO_FEW,
    WORSE,
    Change,
    ChangeMargins,
    find_changes,
    judge,
    parse_margins,
)
from estbench.report.analysis.run_pairs import Recorded
from estbench.stats import Interval, mean_estimate
from estbench.store import load

BOTH = ["reparam", "stl"]
SIMULATED, TESTS = 600, 8
SHORT = {"evaluation": {"points": 2}, "probe": {"replicates": 10, "points": 2}}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write results whose noise and behaviour may be others than those of the same runs elsewhere."""

    def write(name, seeds=4, *, noise="", behaviour=None, estimators=BOTH, **others):
        with monkeypatch.context() as patch:
            if noise:
                patch.setattr(
                    records,
                    "_rng",
                    lambda *key: np.random.default_rng(int(content_hash([noise, *key])[:8], 16)),
                )
            for label, changed in (behaviour or {}).items():
                patch.setitem(records.BEHAVIOURS, label, records.BEHAVIOURS[label]._replace(**changed))
            return load(write_results(tmp_path / name, estimators, seeds, shared=True, **{**SHORT, **others}))

    return write


def verdicts(diff, estimator=None, kind=None):
    return {
        change.verdict
        for change in diff.changes
        if estimator in {None, change.estimator} and kind in {None, change.kind}
    }


def changes_of(gains, kind="bound"):
    """Changes with the given values of the gain, one list for each."""
    nothing = Interval(0.0, math.nan, math.nan, 0)
    estimates = [mean_estimate(each) for each in gains]
    return [
        Change("p", "e", "", kind, str(at), nothing, nothing, each.interval(), each, "seed")
        for at, each in enumerate(estimates)
    ]


def test_the_same_runs_have_the_same_numbers_and_nothing_is_tested(written):
    diff = find_changes(written("old"), written("new"))
    assert verdicts(diff) == {SAME}
    assert diff.same_runs == 8
    assert all(math.isnan(change.p_change) for change in diff.changes)
    assert not diff.has_regressed
    assert diff.notes == []


def test_the_same_estimators_with_other_noise_have_no_change_shown(written):
    diff = find_changes(written("old"), written("new", noise="other"))
    assert verdicts(diff) == {NOTHING_SHOWN, NOT_JUDGED}
    assert diff.same_runs == 0
    assert not diff.has_regressed


def test_a_lower_bound_and_a_larger_variance_are_regressions_of_their_estimator(written):
    worse = {"stl": {"elbo": -125.0, "variance": 0.4}}
    diff = find_changes(written("old"), written("new", noise="other", behaviour=worse))
    assert verdicts(diff, "reparam") == {NOTHING_SHOWN, NOT_JUDGED}
    shown = {change.quantity: change for change in diff.changes if change.verdict == REGRESSION}
    assert {change.estimator for change in shown.values()} == {"stl"}
    assert shown["test ELBO"].change.low < -4 < shown["test ELBO"].change.high
    for weights in ("own", "shared"):
        variance = shown[f"variance, encoder, {weights} weights, step 2,000"].change
        assert variance.low < 5 < variance.high
    assert diff.has_regressed


def test_the_change_of_a_bound_is_the_paired_t_interval_of_final_values(written):
    old, new = written("old"), written("new", noise="other", behaviour={"stl": {"elbo": -100.0}})
    change = next(each for each in find_changes(old, new).changes if (each.estimator, each.kind) == ("stl", "bound"))
    finals = []
    for results in (old, new):
        frame = results.curves
        frame = frame[(frame["estimator"] == "stl") & (frame["metric"] == "elbo") & (frame["split"] == "test")]
        finals.append(frame.sort_values(["seed", "step"]).groupby("seed")["value"].last().to_numpy())
    assert change.change == pytest.approx(mean_estimate(finals[1] - finals[0]).interval())
    assert change.verdict == BETTER


def test_what_is_worse_within_the_margin_is_no_regression(written):
    old, new = written("old"), written("new", noise="other", behaviour={"stl": {"elbo": -125.0, "variance": 0.4}})
    diff = find_changes(old, new, ChangeMargins(bound=10.0, variance=50.0))
    assert WORSE in verdicts(diff, "stl")
    assert REGRESSION not in verdicts(diff)
    assert not diff.has_regressed


def test_two_seeds_are_too_few_to_tell(written):
    diff = find_changes(written("old", 2), written("new", 2, noise="other", behaviour={"stl": {"elbo": -160.0}}))
    assert verdicts(diff, kind="bound") == {TOO_FEW}
    assert not diff.has_regressed


@pytest.mark.parametrize(("old", "verdict"), [(0.0, NO_RATIO), (5e-324, REGRESSION)])
def test_variances_of_which_no_number_can_hold_the_ratio(written, monkeypatch, old, verdict):
    results = [written("old", estimators=["stl"]), written("new", estimators=["stl"], noise="other")]
    real = Recorded.variances
    monkeypatch.setattr(
        Recorded, "variances", lambda run: real(run) * 0.0 + old if run.results is results[0] else real(run)
    )
    diff = find_changes(*results)
    assert verdicts(diff, kind="variance") == {verdict}
    assert diff.has_regressed == (verdict == REGRESSION)
    if verdict == REGRESSION:
        assert all(math.isinf(change.change.value) for change in diff.changes if change.kind == "variance")


def test_a_run_that_diverges_or_fails_is_a_regression_and_one_that_is_mended_is_told(written):
    diverged = {"statuses": {("stl", 1): "diverged"}, "stops": {("stl", 1): 500}}
    old, new = written("old"), written("new", **diverged)
    diff = find_changes(old, new)
    assert [(pair.new.cell.estimator.label, pair.new.cell.seed) for pair in diff.runs.broken()] == [("stl", 1)]
    assert diff.has_regressed
    assert verdicts(diff) == {SAME}
    mended = find_changes(new, old)
    assert len(mended.runs.mended()) == 1
    assert not mended.has_regressed


@pytest.mark.parametrize("status", ["timeout", "interrupted", None])
def test_a_run_that_was_stopped_or_is_missing_is_no_regression(written, status):
    new = written("new", statuses={("stl", 1): status}, stops={("stl", 1): 500})
    diff = find_changes(written("old"), new)
    assert not diff.has_regressed
    assert len(list(diff.runs)) == (7 if status is None else 8)
    assert ("without a record in NEW" in " ".join(diff.runs.unpaired)) == (status is None)


def test_what_is_on_one_side_only_is_named(written):
    diff = find_changes(
        written("old", estimators=["reparam", "stl"]), written("new", estimators=["reparam", "detached"])
    )
    assert diff.runs.only_old == ["only in OLD: stl on vae (seeds 0, 1, 2, 3)"]
    assert diff.runs.only_new == ["only in NEW: detached on vae (seeds 0, 1, 2, 3)"]
    more = find_changes(written("few", [0]), written("many", [0, 1]))
    assert more.runs.only_new == ["only in NEW: reparam on vae (seed 1)", "only in NEW: stl on vae (seed 1)"]


def test_runs_of_another_protocol_are_refused_with_the_settings_that_differ(written):
    old, new = written("old"), written("new", training={"steps": 1000, "learning_rate": 3e-4})
    with pytest.raises(EstbenchError, match=r"training\.steps is 2000 in OLD and 1000 in NEW") as refused:
        find_changes(old, new)
    assert "learning_rate is 0.001 in OLD and 0.0003 in NEW" in str(refused.value)


def test_runs_on_devices_of_two_types_are_not_paired(written):
    new = written("new", environments={1: {"device": "cuda"}})
    diff = find_changes(written("old"), new)
    assert len(list(diff.runs)) == 6
    assert any("on cpu in OLD and on cuda in NEW" in each for each in diff.runs.unpaired)


def test_runs_of_a_sweep_are_paired_by_their_settings(written):
    sweep = {"sweep": {"learning_rate": [1e-3, 3e-4]}}
    diff = find_changes(written("old", 3, **sweep), written("new", 3, **sweep))
    assert {change.setting for change in diff.changes if change.kind == "bound"} == {
        "learning_rate=0.001",
        "learning_rate=0.0003",
    }
    assert diff.same_runs == len(list(diff.runs)) == 12


def test_another_version_of_an_estimator_is_paired_and_told(written):
    old, new = written("old"), written("new")
    for cell in new.plan["cells"]:
        if cell["estimator"]["label"] == "stl":
            cell["estimator"] = {**cell["estimator"], "version": 2, "options": {"scale": 2.0}}
    diff = find_changes(old, new)
    assert diff.same_runs == 8
    assert "stl: version 1 in OLD, 2 in NEW" in diff.notes
    assert "stl: its option scale is absent in OLD, 2.0 in NEW" in diff.notes


def test_the_code_that_made_the_numbers_is_told_where_it_differs(written):
    old, new = (
        {seed: {"commit": commit, "torch": torch} for seed in range(4)}
        for commit, torch in (("a" * 40, "2.13.0"), ("b" * 40, "2.14.0"))
    )
    diff = find_changes(written("old", environments=old), written("new", environments=new))
    assert diff.notes == ["commit: aaaaaaaaaaaa in OLD, bbbbbbbbbbbb in NEW", "torch: 2.13.0 in OLD, 2.14.0 in NEW"]
    assert verdicts(diff) == {SAME}


def test_seconds_are_compared_on_one_machine_and_judged_only_with_a_margin(written, monkeypatch):
    slower = {"stl": {"milliseconds": 9.0}}
    old, new = written("old"), written("new", noise="other", behaviour=slower)
    silent, asked = (find_changes(old, new, margins) for margins in (ChangeMargins(), ChangeMargins(seconds=1.25)))
    for diff, verdict in ((silent, NOT_JUDGED), (asked, REGRESSION)):
        change = next(each for each in diff.changes if (each.estimator, each.kind) == ("stl", "seconds"))
        assert change.verdict == verdict
        assert change.change.low < 2.5 < change.change.high
        assert change.unit == "round"
    assert (silent.has_regressed, asked.has_regressed) == (False, True)
    counts = [sum(not math.isnan(change.p_change) for change in diff.changes) for diff in (silent, asked)]
    assert counts[1] - counts[0] == 2  # without a margin, seconds take no power from the others


def test_seconds_of_two_machines_are_not_compared_and_the_reason_is_told(written, monkeypatch):
    old = written("old")
    rounds = records.throughput_rows
    monkeypatch.setattr(records, "throughput_rows", lambda *given: rounds(*given, machine="m-2"))
    diff = find_changes(old, written("new"))
    assert verdicts(diff, kind="seconds") == set()
    assert diff.notes == [
        "seconds per step: not compared, they were timed in two places: machine m-1 in OLD and m-2 in NEW"
    ]
    untimed = find_changes(old, written("untimed", rounds=0))
    assert untimed.notes == ["seconds per step: not compared, not timed in NEW"]


def test_false_alarms_of_a_whole_diff_are_at_the_stated_rate():
    """Of diffs in which nothing changed, at most 5 % show any change: three seeds, eight quantities."""
    rng = np.random.default_rng(0)
    alarms = sum(
        any(
            change.verdict != NOTHING_SHOWN
            for change in judge(changes_of(rng.normal(size=(TESTS, 3))), ChangeMargins())
        )
        for _ in range(SIMULATED)
    )
    error = math.sqrt(0.05 * 0.95 / SIMULATED)
    # 1 - (1 - 0.05 / 8)^8 is 0.049 for independent tests: not fewer, or the test of a real change would be weaker.
    assert 0.049 - largest_z(2) * error < alarms / SIMULATED < 0.05 + largest_z(2) * error


def test_false_regressions_are_at_the_stated_rate_where_all_is_worse_by_just_the_margin():
    rng = np.random.default_rng(1)
    for kind, margin in (("bound", ChangeMargins(bound=0.5)), ("variance", ChangeMargins(variance=math.exp(0.5)))):
        alarms = sum(
            any(change.verdict == REGRESSION for change in judge(changes_of(gains, kind), margin))
            for gains in rng.normal(-0.5, 1.0, (SIMULATED, TESTS, 3))
        )
        error = math.sqrt(0.05 * 0.95 / SIMULATED)
        assert 0.049 - largest_z(4) * error < alarms / SIMULATED < 0.05 + largest_z(4) * error


def test_numbers_that_are_the_same_do_not_count_among_the_tests():
    rng = np.random.default_rng(2)
    one = changes_of([rng.normal(-1.0, 0.2, 5)])
    alone = judge(one, ChangeMargins())[0]
    same = changes_of(np.zeros((20, 5)))
    among = judge([*one, *(Change(**{**vars(change), "same": True}) for change in same)], ChangeMargins())
    assert among[0].p_change == alone.p_change
    assert [change.verdict for change in among[1:]] == [SAME] * 20


def test_margins_of_a_user():
    assert parse_margins({"bound": "0.5", "seconds": "1.25"}) == ChangeMargins(0.5, 1.1, 1.25)
    for wrong, message in (
        ({"bounds": "1"}, "did you mean 'bound'"),
        ({"bound": "-1"}, "nats"),
        ({"variance": "0.5"}, "ratio"),
        ({"variance": "x"}, "ratio"),
        ({"seconds": "nan"}, "ratio"),
    ):
        with pytest.raises(EstbenchError, match=message):
            parse_margins(wrong)
