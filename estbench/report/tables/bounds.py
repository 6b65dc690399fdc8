"""Final bounds of every estimator, the cells behind them, and what the estimators declare."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.report.analysis import frames
from estbench.report.tables.assemble import ABSENT, assemble, columns_of, count, entry, signed
from estbench.report.tables.base import NOTHING, Column, Entry, Table, fixed
from estbench.report.tables.equal_cost import standings
from estbench.stats import Interval, paired_difference, t_interval
from estbench.store import Status

if TYPE_CHECKING:
    from estbench.store import Results

FINAL = ("num_samples", "examples")
T_INTERVAL = "In brackets: the 95 % t interval over n seeds; below three seeds there is none."


def summary(results: Results) -> Table:
    """One row per problem and estimator: final bounds on the test split, the paired difference, time and cost."""
    planned, reference = frames.cells(results), frames.reference(results)
    samples = frames.setting(results, "evaluation", "num_samples", default="K")
    bounds = {"elbo": "test ELBO", "iwae": f"test IWAE-{samples}"}
    finals = {metric: frames.done(frames.final_values(results, metric)) for metric in (*bounds, "iwae_final")}
    if len(finals["iwae_final"]):
        final, images = (frames.setting(results, "evaluation", f"final_{of}", default="?") for of in FINAL)
        bounds["iwae_final"] = f"test IWAE-{final} on {images} images"
    winners = {problem: of_problem[0].winner for problem, of_problem in standings(results).items()}
    data, rows = [], []
    for (problem, estimator), group in planned.groupby(["problem", "estimator"], sort=False):
        finished = frames.done(group)
        counts = {
            "planned": len(group),
            "done": len(finished),
            "diverged": int((group["status"] == Status.DIVERGED).sum()),
        }
        intervals = {metric: t_interval(_by_seed(finals[metric], problem, estimator)) for metric in bounds}
        difference = _difference(finals["elbo"], problem, estimator, reference)
        one_place = len(frames.places(results, finished["folder"])) == 1
        seconds = t_interval(finished["training_seconds"].dropna()) if one_place else ABSENT
        evaluations = t_interval(finished["evaluations"])
        data.append(
            {"problem": problem, "estimator": estimator}
            | counts
            | columns_of({f"test_{metric}": interval for metric, interval in intervals.items()})
            | columns_of({"elbo_difference": difference, "training_seconds": seconds})
            | {"reference": reference or "", "evaluations": evaluations.value}
        )
        rows.append(
            (
                Entry(str(estimator)),
                Entry(str(problem)),
                Entry(f"{counts['done']} of {counts['planned']}"),
                Entry(str(counts["diverged"])),
                replace(entry(intervals["elbo"], fixed), best=estimator == winners.get(str(problem))),
                *(entry(interval, fixed) for metric, interval in intervals.items() if metric != "elbo"),
                Entry("reference") if estimator == reference else entry(difference, signed),
                entry(seconds, fixed) if one_place or finished.empty else Entry(NOTHING, "timed in several places"),
                Entry(f"{evaluations.value:,.0f}" if evaluations.n else NOTHING, f"n = {evaluations.n}"),
            )
        )
    compared = (
        f"The difference is to {reference}, paired over the seeds that both finished."
        if reference
        else ("The reference estimator is not in this experiment, so there is no difference to show.")
    )
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("cells done"),
        Column("diverged"),
        *(Column(title) for title in bounds.values()),
        Column(f"Δ test ELBO to {reference}" if reference else "Δ test ELBO"),
        Column("training seconds"),
        Column("evaluations"),
    ]
    caption = (
        "Mean nats per example at the last step over the cells that are done; higher is better, and diverged cells are "
        f"counted but not averaged in. {compared} {T_INTERVAL} Bold: shown to be better than every other "
        "estimator (Holm's correction for all pairs). Evaluations are calls of f for one sample of one example, per "
        "cell."
    )
    return assemble(results, "summary", "Final test bounds", caption, data, columns, rows)


def cells(results: Results) -> Table:
    """One row per planned cell: how it ended, where, and what it cost."""
    finals = frames.final_values(results).set_index(frames.RUN)
    data, rows = [], []
    for cell in frames.cells(results).to_dict("records"):
        run = tuple(cell[key] for key in frames.RUN)
        last = finals.loc[run] if run in finals.index else None
        finished = cell["status"] == Status.DONE
        bound = float(last["value"]) if last is not None and finished else math.nan
        clocks = {
            f"{clock}_seconds": cell.get(f"{clock}_seconds", math.nan) for clock in ("training", "evaluation", "probe")
        }
        data.append(
            dict(zip(frames.RUN, run, strict=True))
            | {
                "status": cell["status"],
                "stop_reason": cell["stop_reason"],
                "test_elbo": bound,
                "step": cell["step"],
            }
            | {"last_finite_elbo": math.nan if last is None else float(last["value"])}
            | clocks
            | {"evaluations": cell["evaluations"], "folder": cell["folder"]}
        )
        note = (
            ""
            if last is None or finished
            else f"last finite: {fixed(float(last['value']))} at step {int(last['step']):,}"
        )
        rows.append(
            (
                Entry(str(cell["estimator"])),
                Entry(str(cell["problem"])),
                Entry(str(cell["seed"])),
                Entry(str(cell["status"]), str(cell["stop_reason"])),
                Entry(fixed(bound), note),
                Entry(count(cell["step"])),
                *(Entry(fixed(float(seconds), 1)) for seconds in clocks.values()),
                Entry(count(cell["evaluations"])),
            )
        )
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        Column("seed"),
        Column("status", numeric=False),
        Column("test ELBO"),
        Column("step"),
        Column("training s"),
        Column("evaluation s"),
        Column("probe s"),
        Column("evaluations"),
    ]
    caption = (
        "Every planned cell; n = 1 in each row, so there are no intervals. A cell that is not done has no final bound."
    )
    return assemble(results, "cells", "Cells", caption, data, columns, rows)


def declared(results: Results) -> Table:
    """One row per estimator: what it says about itself."""
    data: list[dict[str, Any]] = []
    rows = []
    for estimator in frames.estimators(results):
        facts = frames.facts(results, estimator)
        if not facts:
            continue
        supports = facts.get("supports", ())
        row = {
            "estimator": estimator,
            "summary": str(facts.get("summary", "")),
            "certificate": frames.certificate(results, estimator),
            "unbiased": _said(facts.get("unbiased"), "yes", "no"),
            "differentiable_f": _said(facts.get("needs_differentiable_f"), "needed", "not needed"),
            "evaluations": str(facts.get("evaluations", "")),
            "supports": ", ".join(sorted(map(str, supports))) if isinstance(supports, (list, tuple)) else str(supports),
            "reference": str(facts.get("reference") or ""),
        }
        data.append(row)
        rows.append(tuple(Entry(text) for text in row.values()))
    titles = [
        "estimator",
        "what it is",
        "certificate",
        "unbiased",
        "differentiable f",
        "evaluations per example",
        "supports",
        "reference",
    ]
    columns = [Column(title, numeric=False, head=index == 0) for index, title in enumerate(titles)]
    return assemble(
        results,
        "estimators",
        "The estimators, as they declare themselves",
        "What each estimator says of itself; `estbench check` puts it to the test.",
        data,
        columns,
        rows,
    )


def _said(fact: object, yes: str, no: str) -> str:
    return yes if fact is True else no if fact is False else "unknown"


def _by_seed(frame: pd.DataFrame, problem: Any, estimator: Any) -> pd.Series[float]:
    mine = frame[(frame["problem"] == problem) & (frame["estimator"] == estimator)]
    values: pd.Series[float] = mine.set_index("seed")["value"].astype(float)
    return values


def _difference(frame: pd.DataFrame, problem: Any, estimator: Any, reference: str | None) -> Interval:
    if reference is None or estimator == reference:
        return ABSENT
    ours, theirs = _by_seed(frame, problem, estimator), _by_seed(frame, problem, reference)
    shared = ours.index.intersection(theirs.index)
    return paired_difference(ours.loc[shared], theirs.loc[shared])
