"""Who leads: the estimators of a problem by their final test bound, and what each of them costs.

A run has *collapsed* if it is finished and ended below its own bound before training. An estimator with a collapsed run
is no contender: it is shown, but it cannot lead, sets no target and does not stretch an axis. Its other runs are not
compared either, because to leave out only the runs that went wrong would favour an unreliable estimator.

P-values are corrected for the k - 1 comparisons with the leader (Holm). The data choose the leader, which this does not
correct for. A slow test with equal estimators and five seeds holds: one is named best in at most 5 % of experiments,
and some other one is shown to be behind in at most 10 % (six estimators) or 12.5 % (ten). The table of all pairs is
corrected for all pairs, and so for this too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from estbench.report.analysis.frames import Frames, Pair, TimingPlace, done, last_common_step, values_by_seed
from estbench.report.analysis.paired import ABSENT, LEVEL, Runs, pair_values
from estbench.stats import Claim, Interval, holm, log_t_interval, paired_ratio, spanned_claim, t_interval
from estbench.store import Status

if TYPE_CHECKING:
    import pandas as pd


class Entrant(NamedTuple):
    """One estimator on one problem.

    Attributes
    ----------
    rank
        From 1; None if it is no contender (a run collapsed, or none is finished).
    bound
        The mean of its final test bounds, in nats per example; ``finals`` has them by seed.
    gap
        The final bound of the leader less its own, paired by seed; the p-value is corrected for the comparisons of all
        contenders with the leader (Holm). Absent for the leader.
    behind, pairs
        The seeds in which the leader ended above it, and the seeds that both have.
    variance
        The variance of its encoder gradient over that of the reference, paired by seed.
    seconds
        Its seconds per step over those of the reference, paired by round.
    evaluations
        Calls of f for each example and step; NaN if unknown.
    ended
        The number of its runs by how they ended: collapsed, and every status but done.
    """

    estimator: str
    rank: int | None
    bound: Interval
    finals: dict[Pair, float]
    gap: Claim
    behind: int
    pairs: int
    variance: Interval
    seconds: Interval
    evaluations: float
    biased: bool
    ended: dict[str, int]

    @property
    def is_behind(self) -> bool:
        """Whether it is shown to be behind the leader."""
        return self.gap.p <= LEVEL and self.gap.interval.low > 0


class Leaderboard(NamedTuple):
    """The estimators of one problem: contenders by rank, then the others."""

    problem: str
    metric: str  # the bound by which they are judged
    trajectory: str  # where gradients were measured: shared, own, or empty
    start: float  # the mean bound before training
    entrants: list[Entrant]

    @property
    def contenders(self) -> list[Entrant]:
        """The estimators that have a rank, best first."""
        return [entrant for entrant in self.entrants if entrant.rank is not None]

    @property
    def winner(self) -> str | None:
        """The leader if every other contender is shown to be behind it; None otherwise."""
        leader, others = self.contenders[:1], self.contenders[1:]
        return leader[0].estimator if others and all(other.is_behind for other in others) else None


def find_contenders(runs: Runs) -> Runs:
    """Return the runs of the estimators of which none has collapsed."""
    return {label: seeds for label, seeds in runs.items() if not any(run.collapsed for run in seeds.values())}


def build_leaderboard(frames: Frames, problem: str, runs: Runs) -> Leaderboard:
    """Rank the estimators of one problem by the mean of their final bounds."""
    finals = {label: {seed: float(run.value[-1]) for seed, run in seeds.items()} for label, seeds in runs.items()}
    contenders = find_contenders(runs)
    means = {label: sum(values.values()) / len(values) for label, values in finals.items()}
    ranked = sorted(contenders, key=lambda label: -means[label])
    others = [*ranked[1:], *(runs.keys() - contenders)] if ranked else []
    gaps = {label: _find_gap(finals[ranked[0]], finals[label]) for label in others}
    adjusted = holm([gaps[label].p for label in ranked[1:]])
    gaps |= {label: gaps[label]._replace(p=float(p)) for label, p in zip(ranked[1:], adjusted, strict=True)}
    trajectory, variances = _find_variances(frames, problem)
    evaluations, _ = frames.costs(problem)
    seconds = _find_seconds(frames, problem)
    rest = [label for label in frames.estimators if label in _planned(frames, problem) and label not in ranked]
    entrants = []
    for at, label in enumerate([*ranked, *sorted(rest, key=lambda label: -means.get(label, -math.inf))]):
        own = finals.get(label, {})
        pairs = [(finals[ranked[0]][seed], own[seed]) for seed in own if ranked and seed in finals[ranked[0]]]
        entrants.append(
            Entrant(
                estimator=label,
                rank=at + 1 if label in contenders else None,
                bound=t_interval(list(own.values())),
                finals=own,
                gap=gaps.get(label, Claim(ABSENT, math.nan)),
                behind=sum(best > value for best, value in pairs),
                pairs=len(pairs),
                variance=variances.get(label, ABSENT),
                seconds=seconds.get(label, ABSENT),
                evaluations=evaluations.get(label, math.nan),
                biased=frames.facts(label).get("unbiased") is False,
                ended=_count_ends(frames, problem, label, runs),
            )
        )
    starts = [float(run.value[0]) for seeds in runs.values() for run in seeds.values() if run.cost["step"][0] == 0]
    start = sum(starts) / len(starts) if starts else math.nan
    return Leaderboard(problem, frames.metric(problem), trajectory, start, entrants)


def _planned(frames: Frames, problem: str) -> set[str]:
    return set(frames.cells.loc[frames.cells["problem"] == problem, "estimator"])


def _find_gap(best: dict[Pair, float], other: dict[Pair, float]) -> Claim:
    differences = [best[seed] - other[seed] for seed in best if seed in other]
    return spanned_claim(differences, differences, differences)


def _find_variances(frames: Frames, problem: str) -> tuple[str, dict[str, Interval]]:
    """Return the encoder's gradient variances over the reference's, at the same weights if they were measured there."""
    for trajectory in ("shared", "own"):
        frame = frames.gradients(trajectory)
        frame = frame[(frame["problem"] == problem) & (frame["space"] == "weights") & (frame["group"] == "encoder")]
        frame = frame[frame["statistic"] == "variance"]
        step = last_common_step(frame)
        if step is None:
            continue
        frame = frame[frame["step"] == step]
        values = {str(label): values_by_seed(rows) for label, rows in frame.groupby("estimator")}
        reference = values.get(frames.reference or "")
        if reference is None:
            continue
        pairs = {label: pair_values(own, reference) for label, own in values.items()}
        return trajectory, {label: paired_ratio(*pair) for label, pair in pairs.items() if len(pair[0])}
    return "", {}


def _find_seconds(frames: Frames, problem: str) -> dict[str, Interval]:
    """Return the ratio of seconds per step to the reference in the same rounds, all of one place."""
    timed = timings_of_one_place(frames, problem)
    ratios = timed["seconds_per_step"] / timed["reference_seconds_per_step"]
    return {
        str(label): log_t_interval(values.dropna())
        for label, values in ratios.groupby(timed["estimator"])
        if len(values.dropna())
    }


def timings_of_one_place(frames: Frames, problem: str) -> pd.DataFrame:
    """Return the timed rounds of a problem in the place that timed most of its estimators; of two, the latest.

    Not even ratios to the same reference are comparable between places: what a machine does fast differs.
    """
    frame = frames.timings_by_machine
    frame = frame[frame["problem"] == problem]
    of_place = [*TimingPlace._fields]
    places = frame.groupby(of_place, dropna=False).agg(estimators=("estimator", "nunique"), session=("session", "max"))
    if len(places) < 2:
        return frame
    chosen = places.sort_values(["estimators", "session"], kind="stable").index[-1]
    return frame[[place == chosen for place in frame[of_place].itertuples(index=False, name=None)]]


def _count_ends(frames: Frames, problem: str, label: str, runs: Runs) -> dict[str, int]:
    cells = frames.cells
    cells = cells[(cells["problem"] == problem) & (cells["estimator"] == label)]
    collapsed = sum(run.collapsed for run in runs.get(label, {}).values())
    broken = len(done(cells)) - len(runs.get(label, {}))  # done, and the last bound is not finite
    ends = {str(status): int(count) for status, count in cells["status"].value_counts().items()}
    ends.pop(str(Status.DONE), None)
    return {name: count for name, count in {"collapsed": collapsed, "without a bound": broken, **ends}.items() if count}
