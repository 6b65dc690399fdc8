"""Records as data frames for a report, each made once."""

from __future__ import annotations

import functools
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from estbench.certify.record import CertificateStatus, certificate_status
from estbench.experiment.spec import EAGER
from estbench.stats import log_t_interval
from estbench.store import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from estbench.store import Results


Owner = TypeVar("Owner")
Given = ParamSpec("Given")
Answer = TypeVar("Answer")
RUN = ["problem", "estimator", "seed"]
# What runs are paired by: a seed, or a seed and a type of device.
Pair = int | str
# Where gradients are measured: along each estimator's own training, or along one run that all share.
TRAJECTORIES = ("own", "shared")
# The trajectory whose gradients are reported first: each estimator's own.
TRAJECTORY = "own"
# One timed round of one problem on one machine: ratios are taken within it.
ROUND = ["session", "machine", "round", "problem", "batch_size", "mode"]
# What is timed of one estimator beside its eager steps at the size of the training.
SIZE = ["batch_size", "mode"]


def once(method: Callable[Concatenate[Owner, Given], Answer]) -> Callable[Concatenate[Owner, Given], Answer]:
    """Decorator: compute a method once for the same object and arguments. Callers must not change the value."""

    @functools.wraps(method)
    def remembered(self: Owner, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        answers: dict[Any, Answer] = vars(self).setdefault("_answers", {})
        asked = (method.__name__, args, tuple(kwargs.items()))
        if asked not in answers:
            answers[asked] = method(self, *args, **kwargs)
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


class Frames:
    """The records of a results folder as data frames. Each is made once; callers share it and must not change it."""

    def __init__(self, results: Results) -> None:
        self.results = results

    @property
    def path(self) -> Path:
        """The results folder; of several, the first."""
        return self.results.path

    def setting(self, *keys: str, default: Any = None) -> Any:
        """Return a value of the recorded experiment."""
        return get_nested(self.results.plan, "experiment", *keys, default=default)

    @cached_property
    def target(self) -> float | None:
        """The test ELBO whose cost is compared, in nats per example; None if none was given."""
        given = self.setting("target")
        return float(given) if isinstance(given, (int, float)) else None

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The planned cells, with their columns even if there are none."""
        columns = ["folder", *RUN, "status", "stop_reason", "step", "examples", "evaluations", "training_seconds"]
        planned = self.results.cells if len(self.results.cells) else pd.DataFrame(columns=columns)
        return planned.assign(pair=self._pairs(planned))

    def _pairs(self, cells: pd.DataFrame) -> pd.Series[Any]:
        """Return what runs are paired by: the seed, and the device too if there are several types of it.

        Devices of different types have other noise and pixels for the same seed.
        """
        if len(self.device_types) < 2:
            return cells["seed"]
        return cells["seed"].astype(str) + " on " + cells["folder"].map(lambda folder: self.place(folder).device)

    @cached_property
    def device_types(self) -> list[str]:
        """The types of device that runs were made on, sorted."""
        return sorted({str(environment["device"]) for environment in self.environments if environment.get("device")})

    @cached_property
    def estimators(self) -> list[str]:
        """The labels in the order of the plan, which is the order everywhere."""
        return list(dict.fromkeys(self.cells["estimator"]))

    @cached_property
    def problems(self) -> list[str]:
        """The labels in the order of the plan."""
        return list(dict.fromkeys(self.cells["problem"]))

    @cached_property
    def reference(self) -> str | None:
        """The label of the estimator that others are compared with; None if it is not in the plan."""
        written = str(self.setting("throughput", "reference", default="")).replace(" ", "")
        known = self.estimators
        if written in known:
            return written
        # Options that equal their defaults are left out of a label.
        named = {
            get_nested(cell, "estimator", "label")
            for cell in self.results.plan["cells"]
            if get_nested(cell, "estimator", "name") == written.split("[")[0]
        }
        return named.pop() if written and len(named) == 1 else None

    def facts(self, estimator: str) -> dict[str, Any]:
        """Return the facts that an estimator declared about itself, from the first record that holds them."""
        planned = self.cells
        for folder in planned.loc[planned["estimator"] == estimator, "folder"]:
            declared = get_nested(self.results.records, folder, "facts")
            if declared:
                return dict(declared)
        return {}

    @once
    def certificate(self, estimator: str) -> str:
        """Return the status of an estimator's certificate, for the source that its records name.

        Only certificates count that ship with estbench or lie in the user's own ``results/certificates/``: those beside
        the results may be a stranger's. If only a record says that the estimator passed, that is a claim.
        """
        planned = self.cells
        folders = planned.loc[planned["estimator"] == estimator, "folder"]
        claims = [claim for folder in folders if (claim := get_nested(self.results.records, folder, "certificate"))]
        if not claims:
            return str(CertificateStatus.NONE)
        checked = {check_claim(estimator, claim) for claim in claims}
        if len(checked) > 1:
            checked.discard(CertificateStatus.CLAIMED)
        return str(next(iter(checked)) if len(checked) == 1 else CertificateStatus.STALE)

    @cached_property
    def statuses(self) -> Counter[str]:
        """The number of cells by status."""
        return Counter(str(status) for status in self.cells["status"])

    @cached_property
    def environments(self) -> list[dict[str, Any]]:
        """The environment of every cell that has one."""
        recorded = (get_nested(record, "environment") for record in self.results.records.values())
        return [dict(environment) for environment in recorded if environment]

    @cached_property
    def distinct_environments(self) -> list[dict[str, Any]]:
        """Each environment once, with the folders of the cells that ran in it."""
        distinct: list[dict[str, Any]] = []
        for folder, record in sorted(self.results.records.items()):
            environment = get_nested(record, "environment")
            if not environment:
                continue
            same = next((each for each in distinct if each["environment"] == environment), None)
            if same is None:
                distinct.append({"environment": environment, "cells": [folder]})
            else:
                same["cells"].append(folder)
        return distinct

    @cached_property
    def planned(self) -> dict[str, Any]:
        """The resolved experiment, the key of every planned cell by its folder, and the card of every problem."""
        cells = {cell["folder"]: cell["key"] for cell in self.results.plan["cells"]}
        cards = {cell["problem"]["label"]: cell["problem"].get("card", "") for cell in self.results.plan["cells"]}
        return {"experiment": self.results.plan["experiment"], "cells": cells, "cards": cards}

    def place(self, folder: str) -> TimingPlace:
        """Return where a cell was timed."""
        environment = get_nested(self.results.records, folder, "environment", default={})
        return TimingPlace(*(str(environment.get(field, "")) for field in TimingPlace._fields))

    def places(self, folders: Iterable[str]) -> set[TimingPlace]:
        """Return where the given cells were timed."""
        return {self.place(folder) for folder in folders}

    @once
    def metric(self, problem: str) -> str:
        """Return the bound that estimators of a problem are judged by: ``elbo``, or ``iwae`` if they ascend L_K."""
        return "iwae" if self._importance_samples(problem) > 1 else "elbo"

    def name_bound(self, problem: str, metric: str = "") -> str:
        """Return the name of that bound, or of another: ELBO, or IWAE with its K.

        K is that of the problem's objective, or the number of draws of the evaluation if the objective is the ELBO.
        """
        if (metric or self.metric(problem)) == "elbo":
            return "ELBO"
        own = self._importance_samples(problem)
        return f"IWAE-{own if own > 1 else self.setting('evaluation', 'num_samples', default='K')}"

    def _importance_samples(self, problem: str) -> int:
        """Return K of a problem's objective; 1 for the ELBO."""
        for cell in self.results.plan["cells"]:
            if get_nested(cell, "problem", "label") == problem:
                samples = get_nested(cell, "problem", "options", "importance_samples", default=1)
                return samples if isinstance(samples, int) else 1
        return 1

    @once
    def curves(self, metric: str = "elbo", split: str = "test") -> pd.DataFrame:
        """Return the finite values of one bound, with the status and folder of their cell."""
        frame = self._recorded(split)
        frame = frame[(frame["metric"] == metric) & np.isfinite(frame["value"].astype(float))]
        return frame.sort_values([*RUN, "step"], kind="stable", ignore_index=True)

    @once
    def _recorded(self, split: str) -> pd.DataFrame:
        """Return all curves of a split, with what is known of their cells: to add it takes the most time."""
        frame = self.results.curves
        frame = frame[frame["split"] == split]
        return frame.merge(self.cells[[*RUN, "pair", "status", "folder"]], on=RUN, how="left")

    @once
    def final_values(self, metric: str = "elbo", split: str = "test") -> pd.DataFrame:
        """Return the last finite value of every cell's bound; it is a result only if the cell is ``done``.

        A finished cell whose last value is not finite is left out: an earlier value never replaces the last one.
        """
        finals = self.curves(metric, split).groupby(RUN, sort=False).tail(1)
        recorded = self._recorded(split)
        ends = recorded[recorded["metric"] == metric].groupby(RUN)["step"].max().rename("end").reset_index()
        finals = finals.merge(ends, on=RUN, how="left")
        whole = (finals["status"] != Status.DONE) | (finals["step"] == finals["end"])
        return finals[whole].drop(columns="end").reset_index(drop=True)

    @once
    def gradients(self, trajectory: str = TRAJECTORY) -> pd.DataFrame:
        """Return the finite gradient statistics of the cells that are done."""
        frame = self.results.gradients
        frame = frame[(frame["trajectory"] == trajectory) & np.isfinite(frame["value"].astype(float))]
        return done(frame.merge(self.cells[[*RUN, "pair", "status"]], on=RUN, how="left"))

    @cached_property
    def timings(self) -> pd.DataFrame:
        """The timed rounds of each estimator's latest session, each with the reference's time in the same round."""
        return _latest(self._as_trained, ["problem", "estimator"])

    @cached_property
    def timings_by_machine(self) -> pd.DataFrame:
        """The same; for several folders, with the latest session on every machine."""
        return _latest(self._as_trained, ["problem", "estimator", "machine"]) if self.results.others else self.timings

    @cached_property
    def timings_by_size(self) -> pd.DataFrame:
        """The latest session of each estimator at each size of minibatches, in each mode; empty if there is one only.

        Beside the reference's time it has the eager step's in the same round, ``eager_seconds_per_step``.
        """
        frame = self._rounds
        if self.results.others:  # sizes of different machines are not comparable
            ordered = frame.sort_values("session", kind="stable")
            frame = ordered[ordered["machine"] == ordered.groupby("problem")["machine"].transform("last")].sort_index()
        eager = frame[frame["mode"] == EAGER][[*ROUND[:-1], "estimator", "seconds_per_step"]]
        eager = eager.rename(columns={"seconds_per_step": "eager_seconds_per_step"})
        frame = _latest(frame, ["problem", "estimator", *SIZE]).merge(eager, on=[*ROUND[:-1], "estimator"], how="left")
        return frame if len(frame.drop_duplicates(SIZE)) > 1 else frame.iloc[:0]

    @cached_property
    def _as_trained(self) -> pd.DataFrame:
        """The timed rounds of eager steps, of the size of minibatches that cells were trained with."""
        frame = self._rounds[self._rounds["mode"] == EAGER]
        return frame[_of_trained_size(frame, self.cells)]

    @cached_property
    def _rounds(self) -> pd.DataFrame:
        frame = self.results.throughput
        seconds = frame["seconds"].astype(float)
        frame = frame[np.isfinite(seconds) & (seconds > 0) & (frame["steps"] > 0)].drop_duplicates(
            [*ROUND, "estimator"], keep="last"
        )
        frame = frame.assign(seconds_per_step=frame["seconds"].astype(float) / frame["steps"].astype(float))
        twins = frame[frame["estimator"] == frame["reference"]]
        twins = twins[[*ROUND, "reference", "seconds_per_step"]].rename(
            columns={"seconds_per_step": "reference_seconds_per_step"}
        )
        return frame.merge(twins, on=[*ROUND, "reference"], how="left")

    def costs(self, problem: str) -> tuple[dict[str, float], dict[str, float]]:
        """Return the evaluations per example, and the milliseconds per step, of each estimator that has them."""
        planned = done(self.cells)
        planned = planned[(planned["problem"] == problem) & (planned["examples"] > 0)]
        evaluations = (planned["evaluations"] / planned["examples"]).groupby(planned["estimator"]).mean()
        timed = self.timings
        timed = timed[timed["problem"] == problem]
        if len(set(timed["machine"])) > 1:  # times of different machines are not comparable
            timed = timed.iloc[:0]
        milliseconds = {
            str(label): 1e3 * log_t_interval(rows["seconds_per_step"]).value
            for label, rows in timed.groupby("estimator")
        }
        return {str(label): float(value) for label, value in evaluations.items() if value > 0}, milliseconds


def done(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of cells that are done: means are taken only over these."""
    return frame[frame["status"] == Status.DONE]


def pair_of(value: Any) -> Pair:
    """Return an entry of the column ``pair`` as plain data."""
    return value if isinstance(value, str) else int(value)


def values_by_seed(frame: pd.DataFrame, **where: Any) -> pd.Series[float]:
    """Return the values of the rows in which every column of ``where`` has the given value, by what pairs runs.

    That is the seed, or seed and device if runs are of several types of device: see ``Frames.cells``.
    """
    for column, value in where.items():
        frame = frame[frame[column] == value]
    pair = "pair" if "pair" in frame else "seed"
    return pd.Series(frame["value"].to_numpy(float), index=pd.Index(frame[pair], name=pair), name="value")


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


def check_claim(estimator: str, claim: Any) -> CertificateStatus:
    """Return the status of the certificate for the source that a record names."""
    status = certificate_status(estimator, str(get_nested(claim, "fingerprint", default="")))
    undecided = {CertificateStatus.NONE, CertificateStatus.STALE}
    if status in undecided and get_nested(claim, "status", default="") == CertificateStatus.PASSED:
        return CertificateStatus.CLAIMED
    return status


def _of_trained_size(frame: pd.DataFrame, trained: pd.DataFrame) -> pd.Series[bool]:
    """Return which timings are of a batch size that the cells trained with: of a swept batch size, the picked one."""
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
