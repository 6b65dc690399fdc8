"""Warnings that a reader needs before the numbers: what is missing, mixed, or declared biased."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estbench.certify.record import CertificateStatus
from estbench.options import shortened
from estbench.report.analysis.frames import Frames, TimingPlace
from estbench.report.analysis.omissions import omissions
from estbench.report.analysis.protocol import describe_training
from estbench.report.analysis.wording import count_noun, format_list
from estbench.stats import FEWEST_FOR_AN_INTERVAL
from estbench.store import Status

if TYPE_CHECKING:
    import pandas as pd

# Fewer seeds give wide intervals, and the report says so.
ENOUGH_SEEDS = 5
# What is said of why runs failed; each run has its whole reason in the table of runs.
MOST_REASONS, LONGEST_REASON = 3, 160
CERTIFICATE_WORDS = {
    CertificateStatus.FAILED: "it failed",
    CertificateStatus.INCONCLUSIVE: "inconclusive",
    CertificateStatus.CLAIMED: "claimed by the record",
    CertificateStatus.STALE: "of another version of its source",
    CertificateStatus.OTHER: "passed with other options",
    CertificateStatus.NONE: "none",
}
VERSIONS = ("estbench", "torch", "numpy", "python", "commit")


def describe_failed(label: str) -> str:
    """Return the warning about an estimator that is not what it says."""
    return (
        f"{label} failed its certificate: its gradient is not what it declares, so that its numbers say nothing of the"
        " estimator that was meant. `estbench check` says what is wrong."
    )


def status_line(frames: Frames) -> str:
    """Return how many cells are done, and how the others ended."""
    counts = frames.statuses
    others = [f"{count} {status}" for status, count in sorted(counts.items()) if status != Status.DONE]
    total = sum(counts.values())
    return (
        f"{counts[Status.DONE]} of {count_noun(total, 'run')} done" + (f"; {', '.join(others)}" if others else "") + "."
    )


def describe_limits(frames: Frames) -> list[str]:
    """Return the warnings, each one or two sentences of plain text."""
    return [
        *_unfinished(frames),
        *_few_seeds(frames),
        *describe_training(frames),
        *omissions(frames),
        *_devices(frames),
        *_timing_places(frames),
        *_provenance(frames),
        *_biased(frames),
        *_uncertified(frames),
    ]


def find_uncertified(frames: Frames) -> list[str]:
    """Return the estimators whose cells were made by code without a passing certificate, each with its status."""
    return _in_words(_without_a_pass(frames))


def find_failed(frames: Frames) -> list[str]:
    """Return the estimators whose cells were made by code that failed its certificate."""
    return [label for label, status in _without_a_pass(frames).items() if status == CertificateStatus.FAILED]


def _in_words(statuses: dict[str, CertificateStatus]) -> list[str]:
    return [f"{label} ({CERTIFICATE_WORDS[status]})" for label, status in statuses.items()]


def _without_a_pass(frames: Frames) -> dict[str, CertificateStatus]:
    statuses = {label: CertificateStatus(frames.certificate(label)) for label in frames.estimators}
    return {label: status for label, status in statuses.items() if status != CertificateStatus.PASSED}


def _unfinished(frames: Frames) -> list[str]:
    frame = frames.cells
    if not (frame["status"] == Status.DONE).any():
        line = "No run is done yet: there are no final numbers to show." if len(frame) else "The plan has no runs."
        return [line, *_by_status(frames)]
    return _by_status(frames)


def _by_status(frames: Frames) -> list[str]:
    frame = frames.cells
    several = len(frames.problems) > 1
    lines = []
    for status, group in frame[frame["status"] != Status.DONE].groupby("status"):
        named = [
            f"{cell['estimator']}{' on ' + str(cell['problem']) if several else ''} seed {cell['seed']}"
            + (f" at step {cell['step']:,.0f}" if status == Status.DIVERGED else "")
            for cell in group.to_dict("records")
        ]
        shown = ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
        why = _reasons(group) if status == Status.FAILED else ""
        lines.append(f"{count_noun(len(named), 'run')} {status}: {shown}. {why}Not in any mean.")
    return lines


def _reasons(runs: pd.DataFrame) -> str:
    """Say why runs failed: the first line of each reason, once."""
    first = [str(reason).partition("\n")[0] for reason in runs["stop_reason"] if reason]
    reasons = [shortened(each, LONGEST_REASON) for each in dict.fromkeys(first)]
    more = f"; and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
    return f"Reason: {'; '.join(reasons[:MOST_REASONS])}{more}. " if reasons else ""


def _few_seeds(frames: Frames) -> list[str]:
    counts = frames.cells.groupby(["problem", "estimator"])["seed"].nunique()
    fewest = int(counts.min()) if len(counts) else 0
    if not 0 < fewest < ENOUGH_SEEDS:
        return []
    seeds = count_noun(fewest, "seed")
    if fewest < FEWEST_FOR_AN_INTERVAL:
        return [f"{seeds}: fewer than {FEWEST_FOR_AN_INTERVAL}, so there are no intervals over seeds."]
    return [f"{seeds}: fewer than {ENOUGH_SEEDS}, so intervals over seeds are wide."]


def _devices(frames: Frames) -> list[str]:
    if len(types := frames.device_types) < 2:
        return []
    line = (
        f"Runs were made on devices of different types ({', '.join(types)}), where the same seed has other pixels and"
        " noise: they are not paired with each other, so differences between them are not tested."
    )
    return [line]


def _timing_places(frames: Frames) -> list[str]:
    places = frames.places(frames.results.records)
    lines = []
    if len(places) > 1:
        listed = "; ".join(_describe_place(place) for place in sorted(places))
        lines.append(
            f"Runs were timed in {len(places)} places, whose seconds are not comparable and are never averaged: "
            f"{listed}."
        )
    timed = frames.timings_by_machine
    if len(set(timed["machine"])) > 1:
        machines = ", ".join(sorted(set(map(str, timed["machine"]))))
        lines.append(f"Throughput was measured on several machines ({machines}): compare within one machine only.")
    return lines


def _describe_place(place: TimingPlace) -> str:
    device = " ".join(dict.fromkeys([place.device, place.device_name]))
    return f"machine {place.machine}, {device}, {place.threads} thread{'' if place.threads == '1' else 's'}"


def _provenance(frames: Frames) -> list[str]:
    known = frames.environments
    lines = []
    dirty = sum(
        str(environment.get("uncommitted")).lower() not in {"none", "false", "0", "no", ""} for environment in known
    )
    if dirty:
        lines.append(
            f"{count_noun(dirty, 'run')} used uncommitted code: no commit holds exactly what made these numbers."
        )
    for name in VERSIONS:
        versions = sorted({str(environment[name]) for environment in known if environment.get(name) is not None})
        if len(versions) > 1:
            lines.append(f"Runs were made by different versions of {name}: {', '.join(versions)}.")
    return lines


def _biased(frames: Frames) -> list[str]:
    named = [label for label in frames.estimators if frames.facts(label).get("unbiased") is False]
    if not named:
        return []
    verb = "is a biased estimator" if len(named) == 1 else "are biased estimators"
    return [f"{format_list(named)} {verb}: low variance does not mean that a model trains well."]


def _uncertified(frames: Frames) -> list[str]:
    failed = find_failed(frames)
    lines = [describe_failed(label) for label in failed]
    undecided = {label: status for label, status in _without_a_pass(frames).items() if label not in failed}
    others = _in_words(undecided)
    if others:
        lines.append(f"No passing certificate: {', '.join(others)}. Nothing here shows that their gradients are right.")
    return lines
