"""Changes between two results of the same runs, beyond noise: bounds, gradient variances, and seconds per step.

The rule. A *bound* is the final test bound of a run: its change is NEW less OLD, paired by seed, with a t interval. A
*variance* is that of the gradient at the last checkpoint that all runs of an estimator have on both sides: its change
is the ratio NEW / OLD, paired by seed, with a t interval on the log scale. *Seconds* are those of the timed rounds of
both sides, if one machine timed both: the ratio of geometric means, with Welch's t interval of the logarithms. Rounds
of two sessions are not interleaved, so that a phase in which the machine is slower looks like a change, and the
interval does not hold that. So seconds are only tested if a margin is given for them.

Two questions are asked of each change, and each has p-values that are corrected (Holm) for all changes that are asked
about, so that the chance of one or more false alarms in a whole diff is at most 5 % for each question:

- did it change? the two-sided test of "no change": *better* or *worse* than before;
- is it worse by more than the margin? the one-sided test of "not worse than the margin": a *regression*.

Numbers that are equal bit for bit are no chance event. They are not tested and do not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from estbench.errors import EstbenchError, did_you_mean
from estbench.report.analysis.frames import TRAJECTORIES, Frames, groups
from estbench.report.analysis.paired import LEVEL
from estbench.report.analysis.run_pairs import Group, RunPair, RunPairs, describe_code, pair_runs
from estbench.stats import (
    FEWEST_FOR_AN_INTERVAL,
    Interval,
    MeanEstimate,
    difference_estimate,
    holm,
    log_t_interval,
    mean_estimate,
    t_interval,
)
from estbench.store import Results

SAME, REGRESSION, WORSE, BETTER = "same numbers", "regression", "worse", "better"
NOTHING_SHOWN, TOO_FEW, NO_RATIO = "no change shown", "too few to tell", "no ratio of zero"
NOT_JUDGED = "not judged"  # of a kind without a margin
# In the order of a table: what a reader looks for comes first.
VERDICTS = (REGRESSION, WORSE, BETTER, NOTHING_SHOWN, TOO_FEW, NO_RATIO, NOT_JUDGED, SAME)
# How much worse is still accepted: nats per example of a bound; a ratio of the others; NaN if it is not judged.
MARGINS = {"bound": 0.1, "variance": 1.1, "seconds": math.nan}
UNITS = {"bound": "nats", "variance": "times", "seconds": "times"}
WEIGHTS = {"own": "own weights", "shared": "shared weights"}
# Where a time was taken, and of what; the columns of a timed round.
TIMED = ("machine", "device", "device_name", "threads", "batch_size")


@dataclass(frozen=True)
class Change:
    """One quantity of one estimator on one problem, in both results.

    Attributes
    ----------
    setting
        The swept settings of training; empty if there are none.
    kind
        "bound", "variance" or "seconds".
    old, new
        The quantity on both sides, with intervals of their own.
    change
        NEW less OLD of a bound; NEW / OLD of the others.
    gain
        The change as an improvement: above zero is better; on the log scale for ratios.
    unit
        The noun of one value: "seed" or "round".
    p_change, p_regression
        Of no change, and of nothing beyond the margin, corrected for all; NaN if it is not tested.
    """

    problem: str
    estimator: str
    setting: str
    kind: str
    quantity: str
    old: Interval
    new: Interval
    change: Interval
    gain: MeanEstimate
    unit: str
    same: bool = False
    p_change: float = math.nan
    p_regression: float = math.nan
    verdict: str = ""


class ChangeMargins(NamedTuple):
    """The loss that is accepted: nats per example of a bound, a ratio of a variance and of seconds."""

    bound: float = MARGINS["bound"]
    variance: float = MARGINS["variance"]
    seconds: float = MARGINS["seconds"]

    def floor(self, kind: str) -> float:
        """Return the gain below which a change is a regression; NaN if this kind is not judged."""
        margin = float(getattr(self, kind))
        return -margin if kind == "bound" else -math.log(margin)


@dataclass(frozen=True)
class Diff:
    """All changes between two results, and what could not be compared."""

    changes: list[Change]
    runs: RunPairs
    margins: ChangeMargins
    same_runs: int
    notes: list[str] = field(default_factory=list)

    @property
    def has_regressed(self) -> bool:
        """Whether anything is worse by more than its margin, or a run that was done diverged or failed."""
        return bool(self.runs.broken()) or any(change.verdict == REGRESSION for change in self.changes)


def parse_margins(written: Mapping[str, str]) -> ChangeMargins:
    """Return margins from the texts of a user; raise ``EstbenchError`` for an unknown quantity or a wrong number."""
    margins = ChangeMargins()
    for name, text in written.items():
        if name not in MARGINS:
            raise EstbenchError(f"--margin knows no '{name}'; {did_you_mean(name, MARGINS)}")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        least = 0.0 if name == "bound" else 1.0
        if not (math.isfinite(value) and value >= least):
            meaning = "nats, 0 or more" if name == "bound" else "a ratio, 1 or more: 1.1 is ten percent"
            raise EstbenchError(f"--margin {name} takes {meaning}, not '{text}'")
        margins = margins._replace(**{name: value})
    return margins


def find_changes(old: Results, new: Results, margins: ChangeMargins | None = None) -> Diff:
    """Compare two results, run by run.

    Parameters
    ----------
    old, new
        Results of two commits, versions or machines; see ``pair_runs`` for what is compared with what.
    margins
        How much worse is still accepted; by default 0.1 nats of a bound, ten percent of a variance, and any seconds.

    Raises
    ------
    EstbenchError
        If they have no run in common.
    """
    margins = ChangeMargins() if margins is None else margins
    runs = pair_runs(old, new)
    frames = (Frames(old), Frames(new))
    changes: list[Change] = []
    for group, pairs in runs.pairs.items():
        finished = [pair for pair in pairs if pair.is_done]
        if finished:
            changes += _compare_bounds(frames[1], group, finished)
            changes += _compare_variances(group, finished)
    timed, notes = _compare_seconds(frames, runs)
    changes = judge([*changes, *timed], margins)
    same = sum(pair.is_done and pair.is_same for pair in runs)
    return Diff(changes, runs, margins, same, [*describe_code(runs), *notes])


def judge(changes: list[Change], margins: ChangeMargins) -> list[Change]:
    """Return changes with their p-values and verdicts: see the rule of this module."""
    floors = [margins.floor(change.kind) for change in changes]
    tested = [
        not change.same and change.change.n >= FEWEST_FOR_AN_INTERVAL and not math.isnan(floor)
        for change, floor in zip(changes, floors, strict=True)
    ]
    asked = list(zip(changes, floors, tested, strict=True))
    p_change = holm([each.gain.p_value() if ask else math.nan for each, _, ask in asked])
    p_regression = holm([each.gain.p_below(floor) if ask else math.nan for each, floor, ask in asked])
    judged = []
    for change, floor, p, p_margin in zip(changes, floors, p_change, p_regression, strict=True):
        verdict = NOT_JUDGED if math.isnan(floor) and not change.same else _verdict(change, float(p), float(p_margin))
        judged.append(replace(change, p_change=float(p), p_regression=float(p_margin), verdict=verdict))
    return judged


def _verdict(change: Change, p_change: float, p_regression: float) -> str:
    if change.same:
        return SAME
    if math.isnan(change.gain.value):
        return NO_RATIO
    if math.isnan(p_change):
        return TOO_FEW
    if p_regression <= LEVEL:
        return REGRESSION
    if p_change > LEVEL:
        return NOTHING_SHOWN
    return BETTER if change.gain.value > 0 else WORSE


def _compare_bounds(frames: Frames, group: Group, pairs: list[RunPair]) -> Iterator[Change]:
    problem = group[0]
    metric = frames.metric(problem)
    values = np.array([[run.final_bound(metric) for run in (pair.old, pair.new)] for pair in pairs])
    values = values[np.isfinite(values).all(axis=1)]
    if len(values):
        old, new = values.T
        gain = mean_estimate(new - old)
        title = f"test {frames.name_bound(problem)}"
        sides = (t_interval(old), t_interval(new))
        yield Change(*group, "bound", title, *sides, gain.interval(), gain, "seed", same=bool((old == new).all()))


def _compare_variances(group: Group, pairs: list[RunPair]) -> Iterator[Change]:
    """Yield a change for each trajectory and group of weights; of variational parameters if there are no weights."""
    tables = [(pair.old.variances(), pair.new.variances()) for pair in pairs]
    shared = [old.index.intersection(new.index) for old, new in tables]
    common = shared[0]
    for index in shared[1:]:
        common = common.intersection(index)
    frame = common.to_frame(index=False)
    if frame.empty:
        return
    spaces = {"weights"} & set(frame["space"]) or set(frame["space"])
    frame = frame[frame["space"].isin(spaces)]
    for trajectory in TRAJECTORIES:
        here = frame[frame["trajectory"] == trajectory]
        for space, name in groups(here):
            step = int(here.loc[(here["space"] == space) & (here["group"] == name), "step"].max())
            at = (trajectory, space, name, step)
            old, new = (np.array([float(table[side][at]) for table in tables]) for side in (0, 1))
            quantity = f"variance, {name}, {WEIGHTS[trajectory]}, step {step:,}"
            yield _ratio(group, "variance", quantity, old, new, _paired_gain(old, new), "seed")


def _paired_gain(old: np.ndarray, new: np.ndarray) -> MeanEstimate:
    """Return the mean of log(old / new) over pairs: above zero if the new one is smaller; NaN without a logarithm."""
    if (old <= 0).any() or (new <= 0).any():
        return MeanEstimate(math.nan, math.nan, math.nan, 0)
    return mean_estimate(np.log(old) - np.log(new))


def _ratio(
    group: Group, kind: str, quantity: str, old: np.ndarray, new: np.ndarray, gain: MeanEstimate, unit: str
) -> Change:
    value, low, high, n = gain.interval()
    change = Interval(-value, -high, -low, n).exponential()
    same = len(old) == len(new) and bool((old == new).all())
    return Change(*group, kind, quantity, log_t_interval(old), log_t_interval(new), change, gain, unit, same=same)


def _compare_seconds(frames: tuple[Frames, Frames], runs: RunPairs) -> tuple[list[Change], list[str]]:
    """Return the changes of seconds per step, and a sentence for each reason why some were not compared."""
    changes: list[Change] = []
    reasons: dict[str, list[str]] = {}
    for problem, estimator in dict.fromkeys(group[:2] for group in runs.pairs):
        timed = [_rounds(each.timings_by_machine, problem, estimator) for each in frames]
        reason, timed = _on_one_machine(timed)
        if reason:
            reasons.setdefault(reason, []).append(f"{estimator} on {problem}")
            continue
        old, new = (rounds["seconds_per_step"].to_numpy(float) for rounds in timed)
        gain = difference_estimate(np.log(old), np.log(new))
        changes.append(_ratio((problem, estimator, ""), "seconds", "seconds per step", old, new, gain, "round"))
    every = len({group[:2] for group in runs.pairs})
    notes = []
    for reason, named in reasons.items():
        of = "" if len(named) == every else f" of {', '.join(named)}"
        notes.append(f"seconds per step{of}: not compared, {reason}")
    return changes, notes


def _rounds(frame: pd.DataFrame, problem: str, estimator: str) -> pd.DataFrame:
    return frame[(frame["problem"] == problem) & (frame["estimator"] == estimator)]


def _on_one_machine(timed: list[pd.DataFrame]) -> tuple[str, list[pd.DataFrame]]:
    """Return why times cannot be compared (empty if they can), and the rounds of the place that both have."""
    missing = [side for side, rounds in zip(("OLD", "NEW"), timed, strict=True) if rounds.empty]
    if missing:
        return f"not timed in {' and '.join(missing)}", timed
    places = [rounds.drop_duplicates([*TIMED])[[*TIMED]].to_dict("records") for rounds in timed]
    shared = [place for place in places[0] if place in places[1]]
    if not shared:
        differing = [name for name in TIMED if {p[name] for p in places[0]}.isdisjoint(p[name] for p in places[1])]
        names = [
            f"{name.replace('_', ' ')} {' or '.join(str(p[name]) for p in places[0])} in OLD and "
            f"{' or '.join(str(p[name]) for p in places[1])} in NEW"
            for name in differing or TIMED
        ]
        return f"they were timed in two places: {', '.join(names)}", timed
    same = pd.Series(shared[-1])
    return "", [rounds[(rounds[[*TIMED]] == same).all(axis=1)] for rounds in timed]
