"""The answer in words: who is best and by how much, what went wrong, and how each contender compares with the best."""

from __future__ import annotations

import math
from collections.abc import Sequence

from estbench.report.analysis.leaderboard import Entrant, Leaderboard
from estbench.report.analysis.wording import count_noun, fixed, format_list, format_p
from estbench.stats import FEWEST_FOR_AN_INTERVAL

# Estimators that a sentence names one by one; more are given as a range.
MOST_NAMED = 4
SEEDS = "--seeds 5"


def write_answer(board: Leaderboard, where: str = "") -> str:
    """Return one or two sentences on who is best; ``where`` begins them, if there are several problems."""
    contenders = board.contenders
    if not contenders:
        if any(entrant.ended.get("collapsed") for entrant in board.entrants):
            return begin(where, "Every estimator collapsed: each ended below its bound before training.")
        return begin(where, "No run has a final bound yet.")
    leader, others = contenders[0], contenders[1:]
    if not others:
        seeds = f" ({count_noun(leader.bound.n, 'seed')})"
        more = "" if leader.bound.n >= FEWEST_FOR_AN_INTERVAL else f"; {SEEDS} gives intervals"
        return begin(where, f"{leader.estimator} ended at {fixed(leader.bound.value, 1)} nats{seeds}{more}.")
    tested = [entrant for entrant in others if entrant.pairs >= FEWEST_FOR_AN_INTERVAL]
    if not tested:
        return begin(where, _list_values(contenders))
    rivals = [entrant for entrant in tested if not entrant.is_behind]
    beaten = [entrant for entrant in tested if entrant.is_behind]
    if rivals:
        sentences = [f"{leader.estimator} has the best mean.", _write_rivals(rivals)]
        sentences += [_write_rest(beaten)] if beaten else []
    else:
        sentences = [f"{leader.estimator} is best: {_write_lead(beaten)}."]
    few = [entrant.estimator for entrant in others if entrant.pairs < FEWEST_FOR_AN_INTERVAL]
    if few:
        sentences.append(f"Too few seeds to compare: {format_list(few)}.")
    return begin(where, " ".join(sentences))


def describe_ends(board: Leaderboard, where: str = "") -> list[str]:
    """Return a sentence for each estimator with runs that collapsed, diverged, failed or are missing."""
    sentences = []
    for entrant in board.entrants:
        total = entrant.bound.n + sum(count for name, count in entrant.ended.items() if name != "collapsed")
        for name, count in entrant.ended.items():
            seeds = f"in {count} of {total} seeds" if total > 1 else "in its only seed"
            if name == "collapsed":
                below = f" ({fixed(board.start, 0)} nats)" if math.isfinite(board.start) else ""
                text = f"{entrant.estimator} collapsed: {seeds} it ended below its bound before training{below}."
                sentences.append(begin(where, f"{text} It takes no part in the ranking."))
            elif name in {"diverged", "without a bound"}:
                verb = "diverged" if name == "diverged" else "ended without a finite bound"
                mean = "; its mean is over the others" if entrant.bound.n else ""
                sentences.append(begin(where, f"{entrant.estimator} {verb} {seeds}{mean}."))
    return sentences


def describe_gap(leader: Entrant, entrant: Entrant) -> str:
    """Return how far a contender is behind the leader, with the evidence."""
    gap, p = entrant.gap
    seeds = f"behind in {entrant.behind} of {count_noun(entrant.pairs, 'seed')}"
    if gap.n < FEWEST_FOR_AN_INTERVAL:
        return f"{entrant.estimator} ended {_size(gap.value)} below {leader.estimator} ({seeds})."
    evidence = f"95 % {fixed(gap.low, 1)} to {fixed(gap.high, 1)}, {seeds}, {format_p(p)}"
    if entrant.is_behind:
        return f"{entrant.estimator} ended {_size(gap.value)} below {leader.estimator} ({evidence})."
    if gap.excludes(0.0):
        return (
            f"{entrant.estimator} ended {_size(gap.value)} below {leader.estimator} ({evidence}); this is not "
            "significant after the correction for the number of comparisons."
        )
    return f"{entrant.estimator} ended {_size(gap.value)} below {leader.estimator}; it may be as good ({evidence})."


def _write_lead(beaten: Sequence[Entrant]) -> str:
    """Return the distance to the next contender, with the seeds won, and the range of the others."""
    first, rest = beaten[0], beaten[1:]
    won = f"in {first.behind} of {count_noun(first.pairs, 'seed')}"
    lead = f"{_size(first.gap.interval.value)} ahead of {first.estimator} ({won})"
    if not rest:
        return lead
    if len(rest) < MOST_NAMED:
        further = [f"{_size(each.gap.interval.value)} ahead of {each.estimator}" for each in rest]
        return f"{lead}, {format_list(further)}"
    return f"{lead}, and {_range(rest)} ahead of the other {len(rest)}"


def _write_rivals(rivals: Sequence[Entrant]) -> str:
    """Return who may be as good, and who is behind in an uncertain way."""
    unclear = [entrant for entrant in rivals if not entrant.gap.interval.excludes(0.0)]
    varying = [entrant for entrant in rivals if entrant.gap.interval.excludes(0.0)]
    sentences = []
    if len(unclear) == 1:
        (one,) = unclear
        seeds = f"behind in {one.behind} of {count_noun(one.pairs, 'seed')}"
        sentences.append(f"{one.estimator} may be as good: {_size(one.gap.interval.value)} behind, {seeds}.")
    elif unclear:
        names = format_list([entrant.estimator for entrant in unclear])
        sentences.append(f"{names} may be as good: {_range(unclear)} behind.")
    sentences += [
        f"{each.estimator} is {_size(each.gap.interval.value)} behind in {each.behind} of "
        f"{count_noun(each.pairs, 'seed')}, which is not significant after correction ({format_p(each.gap.p)})."
        for each in varying
    ]
    return " ".join(sentences)


def _write_rest(beaten: Sequence[Entrant]) -> str:
    if len(beaten) == 1:
        return f"{beaten[0].estimator} is {_size(beaten[0].gap.interval.value)} behind."
    if len(beaten) < MOST_NAMED:
        sizes = format_list([f"{each.estimator} {_size(each.gap.interval.value)}" for each in beaten])
        return f"Behind: {sizes}."
    return f"The other {len(beaten)} are {_range(beaten)} behind."


def _list_values(contenders: Sequence[Entrant]) -> str:
    """Return the bounds of too few seeds, and how to get intervals."""
    count = min(entrant.pairs for entrant in contenders[1:])
    named = [f"{entrant.estimator} {fixed(entrant.bound.value, 1)}" for entrant in contenders[: MOST_NAMED + 1]]
    more = f", and {len(contenders) - len(named)} more" if len(contenders) > len(named) else ""
    seeds = count_noun(count, "common seed") if count != 1 else "One seed"
    return f"{seeds}: {', '.join(named)}{more} nats; {SEEDS} gives intervals."


def _range(entrants: Sequence[Entrant]) -> str:
    sizes = [entrant.gap.interval.value for entrant in entrants]
    low, high = fixed(min(sizes), _digits(min(sizes))), fixed(max(sizes), _digits(max(sizes)))
    return f"{low} nats" if low == high else f"{low} to {high} nats"


def _size(nats: float) -> str:
    return f"{fixed(nats, _digits(nats))} nats"


def _digits(nats: float) -> int:
    """Return the decimals that a reader compares: two below 10 nats, one below 100, none above."""
    return 2 if abs(nats) < 10 else 1 if abs(nats) < 100 else 0


def begin(where: str, text: str) -> str:
    """Return a sentence that begins with its problem, if there are several."""
    return f"On {where}: {text}" if where else text
