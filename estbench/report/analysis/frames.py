"""Records as data frames of what a report shows, each computed once."""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from estbench.certify.record import CertificateStatus, certificate_status
from estbench.stats import log_t_interval
from estbench.store import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from estbench.store import Results


Given = ParamSpec("Given")
Answer = TypeVar("Answer")
RUN = ["problem", "estimator", "seed"]
# Where gradients are measured: along each estimator's own training, or along one run that all share.
TRAJECTORIES = ("own", "shared")
# Where the gradient is reported from: each estimator's own trajectory.
TRAJECTORY = "own"
# One timed round of one problem on one machine: ratios are taken within it.
ROUND = ["session", "machine", "round", "problem"]


def once(function: Callable[Concatenate[Results, Given], Answer]) -> Callable[Concatenate[Results, Given], Answer]:
    """Compute once for the same results and arguments; tables and figures share what it gives, and change nothing."""

    @functools.wraps(function)
    def remembered(results: Results, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        answers: dict[Any, Answer] = vars(results).setdefault("_computed_once", {})
        asked = (function, args, tuple(kwargs.items()))
        if asked not in answers:
            answers[asked] = function(results, *args, **kwargs)
        return answers[asked]

    return remembered  # type: ignore[return-value]  # mypy takes the name of its first argument for a keyword


class Place(NamedTuple):
    """Where a time was taken; times from different places are never pooled."""

    machine: str
    device: str
    device_name: str
    threads: str


def dig(data: Any, *keys: str, default: Any = None) -> Any:
    """A value deep in plain data, or the default where a part of the way is missing or null."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return default if data is None else data


def setting(results: Results, *keys: str, default: Any = None) -> Any:
    """A value of the recorded experiment."""
    return dig(results.plan, "experiment", *keys, default=default)


def target(results: Results) -> float | None:
    """The test ELBO whose cost is compared, where one was given."""
    given = setting(results, "target")
    return float(given) if isinstance(given, (int, float)) else None


def cells(results: Results) -> pd.DataFrame:
    """The planned cells, with their columns even if there are none."""
    columns = ["folder", *RUN, "status", "stop_reason", "step", "examples", "evaluations", "training_seconds"]
    return results.cells if len(results.cells) else pd.DataFrame(columns=columns)


def estimators(results: Results) -> list[str]:
    """Labels in the order of the plan, which is the order everywhere."""
    return list(dict.fromkeys(cells(results)["estimator"]))


def problems(results: Results) -> list[str]:
    """Labels in the order of the plan."""
    return list(dict.fromkeys(cells(results)["problem"]))


def reference(results: Results) -> str | None:
    """The label of the estimator that differences are taken to, if it is in the plan."""
    written = str(setting(results, "throughput", "reference", default="")).replace(" ", "")
    known = estimators(results)
    if written in known:
        return written
    # Options that equal their defaults are left out of a label.
    named = {
        dig(cell, "estimator", "label")
        for cell in results.plan["cells"]
        if dig(cell, "estimator", "name") == written.split("[")[0]
    }
    return named.pop() if written and len(named) == 1 else None


def facts(results: Results, estimator: str) -> dict[str, Any]:
    """What an estimator declared about itself, from the first record that says so."""
    planned = cells(results)
    for folder in planned.loc[planned["estimator"] == estimator, "folder"]:
        declared = dig(results.records, folder, "facts")
        if declared:
            return dict(declared)
    return {}


@once
def certificate(results: Results, estimator: str) -> str:
    """The status of an estimator's certificate, for the source that its cells say they were made from.

    Certificates count that ship with estbench or lie in the user's own ``results/certificates/``; those beside the
    results may be a stranger's. A record's own word that it passed is a claim.
    """
    planned = cells(results)
    folders = planned.loc[planned["estimator"] == estimator, "folder"]
    claims = [claim for folder in folders if (claim := dig(results.records, folder, "certificate"))]
    if not claims:
        return str(CertificateStatus.NONE)
    found = {_believed(estimator, claim) for claim in claims}
    if len(found) > 1:
        found.discard(CertificateStatus.CLAIMED)
    return str(next(iter(found)) if len(found) == 1 else CertificateStatus.STALE)


def _believed(estimator: str, claim: Any) -> CertificateStatus:
    found = certificate_status(estimator, str(dig(claim, "fingerprint", default="")))
    says = dig(claim, "status", default="")
    undecided = {CertificateStatus.NONE, CertificateStatus.STALE}
    if found in undecided and says == CertificateStatus.PASSED:
        return CertificateStatus.CLAIMED
    return found


def statuses(results: Results) -> Counter[str]:
    """How many cells ended how."""
    return Counter(str(status) for status in cells(results)["status"])


def environments(results: Results) -> list[dict[str, Any]]:
    """The environment of every cell that has one."""
    return [dict(found) for record in results.records.values() if (found := dig(record, "environment"))]


def distinct_environments(results: Results) -> list[dict[str, Any]]:
    """Each environment once, with the folders of the cells that ran in it."""
    found: list[dict[str, Any]] = []
    for folder, record in sorted(results.records.items()):
        environment = dig(record, "environment")
        if not environment:
            continue
        same = next((each for each in found if each["environment"] == environment), None)
        if same is None:
            found.append({"environment": environment, "cells": [folder]})
        else:
            same["cells"].append(folder)
    return found


def planned(results: Results) -> dict[str, Any]:
    """The experiment as it was resolved, and the key of every planned cell by its folder."""
    cells = {cell["folder"]: cell["key"] for cell in results.plan["cells"]}
    return {"experiment": results.plan["experiment"], "cells": cells}


def place(results: Results, folder: str) -> Place:
    """Where a cell was timed."""
    found = dig(results.records, folder, "environment", default={})
    return Place(*(str(found.get(field, "")) for field in Place._fields))


def places(results: Results, folders: Iterable[str]) -> set[Place]:
    """Where the given cells were timed."""
    return {place(results, folder) for folder in folders}


@once
def curves(results: Results, metric: str = "elbo", split: str = "test") -> pd.DataFrame:
    """Finite values of one bound, with the status and folder of their cell."""
    frame = results.curves
    frame = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    frame = frame[np.isfinite(frame["value"].astype(float))]
    merged = frame.merge(cells(results)[[*RUN, "status", "folder"]], on=RUN, how="left")
    return merged.sort_values([*RUN, "step"], kind="stable", ignore_index=True)


@once
def final_values(results: Results, metric: str = "elbo", split: str = "test") -> pd.DataFrame:
    """The last finite value of every cell's bound; only that of a cell that is ``done`` is a result.

    A finished cell whose last value is not finite has none: an earlier value never stands in for it.
    """
    finals = curves(results, metric, split).groupby(RUN, sort=False).tail(1)
    recorded = results.curves[(results.curves["metric"] == metric) & (results.curves["split"] == split)]
    ends = recorded.groupby(RUN)["step"].max().rename("end").reset_index()
    finals = finals.merge(ends, on=RUN, how="left")
    whole = (finals["status"] != Status.DONE) | (finals["step"] == finals["end"])
    return finals[whole].drop(columns="end").reset_index(drop=True)


def done(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of cells that are done: the only ones that means are taken over."""
    return frame[frame["status"] == Status.DONE]


@once
def gradients(results: Results, trajectory: str = TRAJECTORY) -> pd.DataFrame:
    """Finite gradient statistics of the cells that are done."""
    frame = results.gradients
    frame = frame[(frame["trajectory"] == trajectory) & np.isfinite(frame["value"].astype(float))]
    return done(frame.merge(cells(results)[[*RUN, "status"]], on=RUN, how="left"))


def describe_trajectory(trajectory: str, checkpoint: str = "checkpoint") -> str:
    """Say at which weights gradients were measured; ``checkpoint`` is the word, which may be a plural."""
    words = {
        "own": "each estimator at the weights of its own training",
        "shared": f"all estimators at the same {checkpoint} of one neutral run",
    }
    return words.get(trajectory, trajectory)


def last_common_step(frame: pd.DataFrame) -> int | None:
    """The last checkpoint that every cell in ``frame`` has."""
    steps = [set(steps) for _, steps in frame.groupby(RUN)["step"]]
    common = set.intersection(*steps) if steps else set()
    return int(max(common)) if common else None


def groups(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The pairs of space and group: weights first, each in a fixed order."""
    order = {"encoder": 0, "decoder": 1, "prior": 2, "loc": 3, "log_scale": 4, "logits": 5}
    found = set(zip(frame["space"], frame["group"], strict=True))
    return sorted(found, key=lambda pair: (pair[0] != "weights", order.get(pair[1], 9), pair))


@once
def timings(results: Results) -> pd.DataFrame:
    """Timed rounds of each estimator's latest session, with the reference's time in the same round beside it."""
    return _latest(_rounds(results), ["problem", "estimator"])


def timings_by_machine(results: Results) -> pd.DataFrame:
    """The same; of several folders, with the latest session on every machine: no machine hides another's."""
    return _latest(_rounds(results), ["problem", "estimator", "machine"]) if results.others else timings(results)


@once
def _rounds(results: Results) -> pd.DataFrame:
    frame = results.throughput
    seconds = frame["seconds"].astype(float)
    frame = frame[np.isfinite(seconds) & (seconds > 0) & (frame["steps"] > 0)].drop_duplicates(
        [*ROUND, "estimator"], keep="last"
    )
    frame = frame.assign(seconds_per_step=frame["seconds"].astype(float) / frame["steps"].astype(float))
    twins = frame[frame["estimator"] == frame["reference"]]
    twins = twins[[*ROUND, "reference", "seconds_per_step"]].rename(
        columns={"seconds_per_step": "reference_seconds_per_step"}
    )
    frame = frame.merge(twins, on=[*ROUND, "reference"], how="left")
    return frame[_as_trained(frame, results)]


def _as_trained(frame: pd.DataFrame, results: Results) -> pd.Series[bool]:
    """Which timings are of a batch size that the cells trained with; where batch sizes are swept, that is of one."""
    trained = cells(results)
    trained = trained[trained["step"] > 0]
    sizes = set(zip(trained["problem"], trained["estimator"], trained["examples"] // trained["step"], strict=True))
    known = {(problem, estimator) for problem, estimator, _ in sizes}
    timed = zip(frame["problem"], frame["estimator"], frame["batch_size"], strict=True)
    return pd.Series([row in sizes or row[:2] not in known for row in timed], index=frame.index, dtype=bool)


def _latest(frame: pd.DataFrame, of: list[str]) -> pd.DataFrame:
    for column in ("session", "machine"):  # one session is of one machine; if not, still never pool two
        latest = frame.groupby(of)[column].transform("max")
        frame = frame[frame[column] == latest]
    return frame.reset_index(drop=True)


def costs(results: Results, problem: str) -> tuple[dict[str, float], dict[str, float]]:
    """Evaluations per example, and milliseconds per step, of each estimator that has them."""
    planned = done(cells(results))
    planned = planned[(planned["problem"] == problem) & (planned["examples"] > 0)]
    evaluations = (planned["evaluations"] / planned["examples"]).groupby(planned["estimator"]).mean()
    timed = timings(results)
    timed = timed[timed["problem"] == problem]
    if len(set(timed["machine"])) > 1:  # times of different machines are not comparable
        timed = timed.iloc[:0]
    milliseconds = {
        str(label): 1e3 * log_t_interval(rows["seconds_per_step"]).value for label, rows in timed.groupby("estimator")
    }
    return {str(label): float(value) for label, value in evaluations.items() if value > 0}, milliseconds
