"""Records as data frames for a report, each computed once."""

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
# The trajectory whose gradients are reported first: each estimator's own.
TRAJECTORY = "own"
# One timed round of one problem on one machine: ratios are taken within it.
ROUND = ["session", "machine", "round", "problem"]


def once(function: Callable[Concatenate[Results, Given], Answer]) -> Callable[Concatenate[Results, Given], Answer]:
    """Decorator: compute once for the same results and arguments. Callers share the value and must not change it."""

    @functools.wraps(function)
    def remembered(results: Results, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        answers: dict[Any, Answer] = vars(results).setdefault("_computed_once", {})
        asked = (function, args, tuple(kwargs.items()))
        if asked not in answers:
            answers[asked] = function(results, *args, **kwargs)
        return answers[asked]

    return remembered  # type: ignore[return-value]  # mypy takes the name of its first argument for a keyword


class TimingPlace(NamedTuple):
    """The machine and device that a time was taken on; times from different places are never pooled."""

    machine: str
    device: str
    device_name: str
    threads: str


def get_nested(data: Any, *keys: str, default: Any = None) -> Any:
    """Return a value deep in plain data, or the default if a part of the way is missing or null."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return default if data is None else data


def setting(results: Results, *keys: str, default: Any = None) -> Any:
    """Return a value of the recorded experiment."""
    return get_nested(results.plan, "experiment", *keys, default=default)


def target(results: Results) -> float | None:
    """Return the test ELBO whose cost is compared, in nats per example; None if none was given."""
    given = setting(results, "target")
    return float(given) if isinstance(given, (int, float)) else None


def cells(results: Results) -> pd.DataFrame:
    """Return the planned cells, with their columns even if there are none."""
    columns = ["folder", *RUN, "status", "stop_reason", "step", "examples", "evaluations", "training_seconds"]
    return results.cells if len(results.cells) else pd.DataFrame(columns=columns)


def estimators(results: Results) -> list[str]:
    """Return the labels in the order of the plan, which is the order everywhere."""
    return list(dict.fromkeys(cells(results)["estimator"]))


def problems(results: Results) -> list[str]:
    """Return the labels in the order of the plan."""
    return list(dict.fromkeys(cells(results)["problem"]))


def reference(results: Results) -> str | None:
    """Return the label of the estimator that others are compared with; None if it is not in the plan."""
    written = str(setting(results, "throughput", "reference", default="")).replace(" ", "")
    known = estimators(results)
    if written in known:
        return written
    # Options that equal their defaults are left out of a label.
    named = {
        get_nested(cell, "estimator", "label")
        for cell in results.plan["cells"]
        if get_nested(cell, "estimator", "name") == written.split("[")[0]
    }
    return named.pop() if written and len(named) == 1 else None


def facts(results: Results, estimator: str) -> dict[str, Any]:
    """Return the facts that an estimator declared about itself, from the first record that holds them."""
    planned = cells(results)
    for folder in planned.loc[planned["estimator"] == estimator, "folder"]:
        declared = get_nested(results.records, folder, "facts")
        if declared:
            return dict(declared)
    return {}


@once
def certificate(results: Results, estimator: str) -> str:
    """Return the status of an estimator's certificate, for the source that its records name.

    Only certificates count that ship with estbench or lie in the user's own ``results/certificates/``: those beside
    the results may be a stranger's. If only a record says that the estimator passed, that is a claim.
    """
    planned = cells(results)
    folders = planned.loc[planned["estimator"] == estimator, "folder"]
    claims = [claim for folder in folders if (claim := get_nested(results.records, folder, "certificate"))]
    if not claims:
        return str(CertificateStatus.NONE)
    checked = {_check_claim(estimator, claim) for claim in claims}
    if len(checked) > 1:
        checked.discard(CertificateStatus.CLAIMED)
    return str(next(iter(checked)) if len(checked) == 1 else CertificateStatus.STALE)


def _check_claim(estimator: str, claim: Any) -> CertificateStatus:
    """Return the status of the certificate for the source that a record names."""
    status = certificate_status(estimator, str(get_nested(claim, "fingerprint", default="")))
    undecided = {CertificateStatus.NONE, CertificateStatus.STALE}
    if status in undecided and get_nested(claim, "status", default="") == CertificateStatus.PASSED:
        return CertificateStatus.CLAIMED
    return status


def statuses(results: Results) -> Counter[str]:
    """Return the number of cells by status."""
    return Counter(str(status) for status in cells(results)["status"])


def environments(results: Results) -> list[dict[str, Any]]:
    """Return the environment of every cell that has one."""
    recorded = (get_nested(record, "environment") for record in results.records.values())
    return [dict(environment) for environment in recorded if environment]


def distinct_environments(results: Results) -> list[dict[str, Any]]:
    """Return each environment once, with the folders of the cells that ran in it."""
    distinct: list[dict[str, Any]] = []
    for folder, record in sorted(results.records.items()):
        environment = get_nested(record, "environment")
        if not environment:
            continue
        same = next((each for each in distinct if each["environment"] == environment), None)
        if same is None:
            distinct.append({"environment": environment, "cells": [folder]})
        else:
            same["cells"].append(folder)
    return distinct


def planned(results: Results) -> dict[str, Any]:
    """Return the resolved experiment, and the key of every planned cell by its folder."""
    cells = {cell["folder"]: cell["key"] for cell in results.plan["cells"]}
    return {"experiment": results.plan["experiment"], "cells": cells}


def place(results: Results, folder: str) -> TimingPlace:
    """Return where a cell was timed."""
    environment = get_nested(results.records, folder, "environment", default={})
    return TimingPlace(*(str(environment.get(field, "")) for field in TimingPlace._fields))


def places(results: Results, folders: Iterable[str]) -> set[TimingPlace]:
    """Return where the given cells were timed."""
    return {place(results, folder) for folder in folders}


@once
def curves(results: Results, metric: str = "elbo", split: str = "test") -> pd.DataFrame:
    """Return the finite values of one bound, with the status and folder of their cell."""
    frame = results.curves
    frame = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    frame = frame[np.isfinite(frame["value"].astype(float))]
    merged = frame.merge(cells(results)[[*RUN, "status", "folder"]], on=RUN, how="left")
    return merged.sort_values([*RUN, "step"], kind="stable", ignore_index=True)


@once
def final_values(results: Results, metric: str = "elbo", split: str = "test") -> pd.DataFrame:
    """Return the last finite value of every cell's bound; it is a result only if the cell is ``done``.

    A finished cell whose last value is not finite is left out: an earlier value never replaces the last one.
    """
    finals = curves(results, metric, split).groupby(RUN, sort=False).tail(1)
    recorded = results.curves[(results.curves["metric"] == metric) & (results.curves["split"] == split)]
    ends = recorded.groupby(RUN)["step"].max().rename("end").reset_index()
    finals = finals.merge(ends, on=RUN, how="left")
    whole = (finals["status"] != Status.DONE) | (finals["step"] == finals["end"])
    return finals[whole].drop(columns="end").reset_index(drop=True)


def done(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of cells that are done: means are taken only over these."""
    return frame[frame["status"] == Status.DONE]


def values_by_seed(frame: pd.DataFrame, **where: Any) -> pd.Series[float]:
    """Return the values of the rows in which every column of ``where`` has the given value, by seed."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    values: pd.Series[float] = frame.set_index("seed")["value"].astype(float)
    return values


@once
def gradients(results: Results, trajectory: str = TRAJECTORY) -> pd.DataFrame:
    """Return the finite gradient statistics of the cells that are done."""
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
    """Return the step of the last checkpoint that every cell in ``frame`` has; None if they share none."""
    steps = [set(steps) for _, steps in frame.groupby(RUN)["step"]]
    common = set.intersection(*steps) if steps else set()
    return int(max(common)) if common else None


def groups(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs of space and group: weights first, each in a fixed order."""
    order = {"encoder": 0, "decoder": 1, "prior": 2, "loc": 3, "log_scale": 4, "logits": 5}
    pairs = set(zip(frame["space"], frame["group"], strict=True))
    return sorted(pairs, key=lambda pair: (pair[0] != "weights", order.get(pair[1], 9), pair))


@once
def timings(results: Results) -> pd.DataFrame:
    """Return the timed rounds of each estimator's latest session, each with the reference's time in the same round."""
    return _latest(_rounds(results), ["problem", "estimator"])


def timings_by_machine(results: Results) -> pd.DataFrame:
    """Return the same; for several folders, with the latest session on every machine."""
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
    """Return which timings are of a batch size that the cells trained with: of a swept batch size, the picked one."""
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
    """Return the evaluations per example, and the milliseconds per step, of each estimator that has them."""
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
