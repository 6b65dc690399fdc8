"""Who leads: every verdict is worked out again by hand, with scipy, from the CSV file of the cells."""

from __future__ import annotations

import io
import math
import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from records import analyse, write_results

from estbench.report.analysis.frames import TimingPlace
from estbench.report.analysis.leaderboard import build_leaderboard
from estbench.report.analysis.paired import CURRENCIES, Run
from estbench.report.analysis.wording import MINUS, NOTHING
from estbench.report.tables.cells import cells as cells_of
from estbench.report.tables.ranking import ranking
from estbench.store import load

START = -500.0
A, B, C, D = LABELS = ("reparam", "stl", "reinforce", "rloo[num_samples=4]")
FIVE = np.array([0.3, -0.2, 0.1, 0.4, -0.6])
OTHER = np.array([-0.4, 0.5, 0.0, -0.3, 0.2])
# The final bounds by estimator, in the order of seeds; None for a run that is missing.
SITUATIONS = {
    "a clear order": {A: -100 + FIVE, B: -103 + OTHER, C: -150 + 10 * OTHER},
    "a tie": {A: -100 + FIVE, B: -100 + FIVE, C: -120 + OTHER},
    "close": {A: -100 + FIVE, B: -100.05 + OTHER},
    "a collapse": {A: -100 + FIVE, B: -101 + FIVE + OTHER / 5, C: [-1000, -600, -400, -3000, -900]},
    "one run collapsed": {A: -100 + FIVE, B: [-90, -90.5, -89, -600, -90], C: -104 + OTHER},
    "all collapsed": {A: -600 + FIVE, B: -700 + OTHER},
    "a missing seed": {A: [-100.1, None, -99.8, -100.3, -100.0], B: -103 + OTHER},
    "two missing seeds": {A: -100 + FIVE, B: [-103, -102.6, None, -103.4, None], C: -110 + OTHER},
    "few seeds of one": {A: -100 + FIVE, B: -103 + OTHER, C: [None, -104, None, None, -104.5]},
    "one seed": {A: [-124.3], B: [-586 + 100]},
    "two seeds": {A: [-124.3, -124.9], B: [-130.0, -131.5]},
    "one estimator": {A: -100 + FIVE},
    "always behind, by very different amounts": {A: -100 + FIVE, B: [-101, -130, -105, -280, -150]},
    "four": {A: -100 + FIVE, B: -102 + OTHER, C: -140 + OTHER, D: -106 + FIVE},
}


def write(path, finals):
    """Write records whose test ELBO is START before training and then what ``finals`` says."""
    count = len(next(iter(finals.values())))
    statuses = {(label, seed): None for label in finals for seed in range(count) if finals[label][seed] is None}
    write_results(path, list(finals), count, statuses=statuses, replicates=20, rounds=3)
    for cell in load(path).plan["cells"]:
        file = path / "cells" / cell["folder"] / "curves.parquet"
        if file.exists():
            frame, value = pd.read_parquet(file), finals[cell["estimator"]["label"]][cell["seed"]]
            test = (frame["split"] == "test") & (frame["metric"] == "elbo")
            frame.loc[test, "value"] = np.where(frame.loc[test, "step"] == 0, START, value)
            frame.to_parquet(file, index=False)
    return path


def holm(p_values):
    order = np.argsort(p_values)
    adjusted, running = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


@pytest.fixture(scope="module", params=SITUATIONS)
def situation(request, tmp_path_factory):
    """The analysis of one situation, and the final bounds by seed, read from the CSV file of the cells."""
    path = write(tmp_path_factory.mktemp("board") / "r", SITUATIONS[request.param])
    analysis = analyse(path)
    cells = pd.read_csv(io.StringIO(cells_of(analysis).files()["csv"])).dropna(subset=["test_elbo"])
    return analysis, {label: rows.set_index("seed")["test_elbo"] for label, rows in cells.groupby("estimator")}


@pytest.mark.slow_after(3)
def test_the_board_is_what_the_cells_say(situation):
    analysis, finals = situation
    (board,) = analysis.leaderboards
    collapsed = {label: int((values < START).sum()) for label, values in finals.items()}
    ranked = sorted((each for each in finals if not collapsed[each]), key=lambda each: -finals[each].mean())
    assert [entrant.estimator for entrant in board.contenders] == ranked
    assert {entrant.estimator for entrant in board.entrants} == set(finals)
    gaps = {}
    for entrant in board.entrants:
        values = finals[entrant.estimator]
        assert entrant.ended.get("collapsed", 0) == collapsed[entrant.estimator]
        assert entrant.bound.value == pytest.approx(values.mean(), rel=1e-12)
        assert entrant.bound.n == len(values)
        if len(values) >= 3:
            ends = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), scipy.stats.sem(values))
            assert (entrant.bound.low, entrant.bound.high) == pytest.approx(ends, rel=1e-9)
        if ranked and entrant.estimator != ranked[0]:
            pairs = pd.concat([finals[ranked[0]], values], axis=1, join="inner")
            gaps[entrant.estimator] = pairs.iloc[:, 0] - pairs.iloc[:, 1]
            assert (entrant.behind, entrant.pairs) == ((gaps[entrant.estimator] > 0).sum(), len(pairs))
            assert entrant.gap.interval.value == pytest.approx(gaps[entrant.estimator].mean(), abs=1e-9)
    others = ranked[1:]
    others = [label for label in others if len(gaps[label]) >= 3]
    if others:
        p_values = [
            scipy.stats.ttest_1samp(gaps[each], 0).pvalue if gaps[each].std() else float(gaps[each].mean() == 0)
            for each in others
        ]
        for entrant, p in zip((each for each in board.contenders[1:] if each.pairs >= 3), holm(p_values), strict=True):
            assert entrant.gap.p == pytest.approx(p, rel=1e-6)
            assert entrant.is_behind == (p <= 0.05 and gaps[entrant.estimator].mean() > 0)


ANSWERS = {
    "a clear order": r"reparam is best: 3\.\d\d nats ahead of stl \(in 5 of 5 seeds\), 50\.\d nats ahead of rein",
    "a tie": r"has the best mean\. stl may be as good: 0\.00 nats behind, behind in 0 of 5 seeds\. reinforce is 2",
    "close": r"has the best mean\. \S+ may be as good: 0\.0\d nats behind, behind in \d of 5 seeds\.$",
    "a collapse": r"reparam is best: 1\.\d\d nats ahead of stl \(in 5 of 5 seeds\)\.$",
    "one run collapsed": r"reparam is best: 4\.\d\d nats ahead of reinforce \(in 5 of 5 seeds\)\.$",
    "all collapsed": r"Every estimator collapsed",
    "a missing seed": r"reparam is best: 3\.\d\d nats ahead of stl \(in 4 of 4 seeds\)\.$",
    "two missing seeds": r"reparam is best: .* ahead of stl \(in 3 of 3 seeds\), 10\.\d nats ahead of reinforce\.$",
    "few seeds of one": r"reparam is best: 3\.\d\d nats ahead of stl .*\. Too few seeds to compare: reinforce\.$",
    "one seed": r"One seed: reparam -124\.3, stl -486\.0 nats; --seeds 5 gives intervals\.$",
    "two seeds": r"2 common seeds: reparam -124\.6, stl -130\.8 nats; --seeds 5 gives intervals\.$",
    "one estimator": r"reparam ended at -100\.0 nats \(5 seeds\)\.$",
    "always behind, by very different amounts": r"reparam has the best mean\. stl (may be as good|is)",
    "four": r"reparam is best: 2\.\d\d nats ahead of stl .*, 6\.\d\d nats ahead of rloo\[.* and 40\.\d nats ahead of",
}


def test_the_answer_is_one_sentence_or_two(request, situation):
    analysis, _ = situation
    name = request.node.callspec.params["situation"]
    (answer,) = (each.text for each in analysis.conclusions if each.kind == "leader")
    assert re.search(ANSWERS[name], answer.replace(MINUS, "-")), answer
    assert "no difference" not in answer.lower()
    outcomes = [each.text for each in analysis.conclusions if each.kind == "outcome"]
    assert ("collapsed" in " ".join(outcomes)) == ("collapse" in name)


def test_a_collapse_of_the_only_seed_reads_as_such(tmp_path):
    analysis = analyse(write(tmp_path / "r", {A: [-124.3], B: [-586.0]}))
    texts = [each.text.replace(MINUS, "-") for each in analysis.conclusions]
    assert texts[0] == "reparam ended at -124.3 nats (1 seed); --seeds 5 gives intervals."
    assert texts[1].startswith("stl collapsed: in its only seed it ended below its bound before training")
    assert "n = 1 seed. An interval needs 3 seeds." in ranking(analysis).caption


def test_a_gap_is_never_called_no_difference_where_the_interval_excludes_zero(situation):
    analysis, _ = situation
    for conclusion in analysis.conclusions:
        if conclusion.kind == "bound" and conclusion.evidence.excludes(0.0):
            assert "may be as good" not in conclusion.text
            assert f"of {conclusion.evidence.n} seeds" in conclusion.text


def test_collapsed_runs_lead_nowhere_and_set_no_target(situation):
    analysis, finals = situation
    collapsed = {label for label, values in finals.items() if (values < START).any()}
    for rankings in analysis.rankings.values():
        for each in rankings:
            assert not collapsed & set(each.spans)
    best = max((finals[label].mean() for label in finals if label not in collapsed), default=math.nan)
    targets = {cost.target for cost in analysis.target_costs}
    expected = {best - gap for gap in (1, 5, 20)} if len(finals) > 1 and not math.isnan(best) else set()
    assert sorted(targets) == pytest.approx(sorted(expected))


def test_the_table_stands_in_the_order_of_the_ranks(situation):
    analysis, _ = situation
    (board,) = analysis.leaderboards
    table = ranking(analysis)
    assert list(table.data["estimator"]) == [entrant.estimator for entrant in board.entrants]
    ranks = [row[0].text for row in table.rows]
    if not board.contenders:  # no column of dashes
        assert table.columns[0].title == "estimator"
        assert "Without a value in every row: rank" in table.caption
        return
    assert ranks == [str(place + 1) for place in range(len(board.contenders))] + [NOTHING] * (
        len(board.entrants) - len(board.contenders)
    )


def test_a_multi_sample_problem_is_judged_by_its_own_bound(tmp_path):
    path = write_results(tmp_path / "r", [A, B], 3, problems=["vae[importance_samples=5]"], rounds=0)
    analysis = analyse(path)
    (board,) = analysis.leaderboards
    assert board.metric == "iwae"
    assert "IWAE-5" in [column.title for column in ranking(analysis).columns][2]
    values = analysis.results.curves.query("split == 'test' and metric == 'iwae' and step == 2000")
    expected = values.groupby("estimator")["value"].mean()
    assert {each.estimator: each.bound.value for each in board.entrants} == pytest.approx(expected.to_dict())


class Nothing:
    """Frames of estimators without measurements."""

    reference = None
    timings_by_machine = pd.DataFrame(
        columns=[
            *("problem", "estimator", "session", "seconds_per_step", "reference_seconds_per_step"),
            *TimingPlace._fields,
        ]
    )

    def __init__(self, labels):
        self.estimators = labels
        self.cells = pd.DataFrame({"problem": "p", "estimator": labels, "status": "done"})

    def gradients(self, trajectory):
        return pd.DataFrame(columns=["problem", "estimator", "seed", "step", "space", "group", "statistic", "value"])

    def costs(self, problem):
        return {}, {}

    def facts(self, label):
        return {}

    def metric(self, problem):
        return "elbo"


@pytest.mark.slow
@pytest.mark.parametrize(("count", "most_stars"), [(2, 0.05), (6, 0.10), (10, 0.125)])
def test_how_often_equal_estimators_are_told_apart(count, most_stars):
    """A best one is named in at most 5 % of experiments, but stars are more frequent: the data choose the best.

    The one-sided false-alarm rate of each of the six comparisons is 0.1 %.
    """
    rng, experiments, seeds = np.random.default_rng(count), 400, 5
    labels = [f"e{at}" for at in range(count)]
    cost = {currency: np.array([0.0, 1.0]) for currency in CURRENCIES}
    named = starred = 0
    for _ in range(experiments):
        finals = rng.normal(size=(count, seeds)) + rng.normal(size=seeds)
        runs = {
            label: {seed: Run("", cost, np.array([-100.0, value])) for seed, value in enumerate(values)}
            for label, values in zip(labels, finals, strict=True)
        }
        board = build_leaderboard(Nothing(labels), "p", runs)
        named += board.winner is not None
        starred += any(entrant.is_behind for entrant in board.contenders)
    for times, most in ((named, 0.05), (starred, most_stars)):
        assert scipy.stats.binomtest(times, experiments, most, "greater").pvalue > 0.001
