"""Checks of the records of a stranger, from the records alone: nothing is computed again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from estbench.certify.record import Certificate, CheckOutcome, certified_parts, shipped_certificates
from estbench.errors import EstbenchError
from estbench.experiment import Cell
from estbench.experiment.plan import cell_from_record
from estbench.options import validated
from estbench.store.results import Results
from estbench.store.status import Status
from estbench.store.tables import CURVES, GRADIENTS

# Statistics that are squares or ratios of them; the estimates of others may be below zero.
NEVER_NEGATIVE = {"variance", "snr"}
# Sums of numbers in single precision agree to so many times their size.
ROUNDING = 1e-5
# What the file of a certificate has beside it.
HEADER = {"schema", "estbench"}
# A run is named with its first complaint, and so many runs of one complaint.
MOST_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """Something that was found, against the records (``refused``) or only worth knowing."""

    refused: bool
    message: str


def inspect(results: Results, certificates: list[Any]) -> list[Finding]:
    """Return what speaks against results, from the records alone.

    Keys and names of cells are computed again; the plan is complete; numbers are in their range and agree with each
    other; and each estimator has a passing certificate for the source that made its numbers, one that ships with
    estbench or one of ``certificates``.
    """
    by_message: dict[tuple[bool, str], list[str]] = {}
    for cell in results.plan["cells"]:
        for refused, message in _against_cell(results, cell):
            by_message.setdefault((refused, message), []).append(cell["folder"])
    findings = [Finding(refused, f"{message}: {_name_some(cells)}") for (refused, message), cells in by_message.items()]
    return findings + [Finding(*found) for found in _against_certificates(results, certificates)]


def _name_some(cells: list[str]) -> str:
    more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
    return ", ".join(cells[:MOST_NAMED]) + more


def _against_cell(results: Results, recorded: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    cell = cell_from_record(recorded)
    if cell.key != recorded["key"]:
        yield True, "its key is not that of its settings"
    if cell.folder != recorded["folder"]:
        yield True, "its name is not that of its settings"
    record = results.records.get(recorded["folder"])
    if record is None:
        yield False, "planned, and without a result"
        return
    if not isinstance(record.get("cell"), dict) or record["cell"].get("key") != recorded["key"]:
        yield True, "its record is of another run"
        return
    environment = record.get("environment", {})
    if not environment.get("commit"):
        yield False, "no commit says which code made it"
    elif environment.get("uncommitted"):
        yield False, "made by code that was not committed"
    if record["status"] == Status.DONE:
        yield from ((True, message) for message in _against_counts(cell, record))
    home = results.home(recorded["folder"])
    curves, moments = home.table("curves.parquet", CURVES), home.table("gradients.parquet", GRADIENTS)
    yield from ((True, message) for message in _against_curves(cell, record, curves.to_pandas()))
    yield from ((True, message) for message in _against_gradients(cell, moments.to_pandas()))


def _against_counts(cell: Cell, record: dict[str, Any]) -> Iterator[str]:
    if record.get("step") != cell.training.steps:
        yield "it is called done before its last step"
    if not 0 < record.get("examples", 0) <= cell.training.steps * cell.training.batch_size:
        yield "it saw more examples than its steps have, or none"
    if record.get("evaluations", 0) <= 0:
        yield "it counts no evaluation of f"


def _against_curves(cell: Cell, record: dict[str, Any], curves: pd.DataFrame) -> Iterator[str]:
    done = record["status"] == Status.DONE
    planned = set(cell.evaluation.steps(cell.training.steps))
    steps = set(curves["step"])
    if done and not planned <= steps:
        yield "its curves lack evaluations of the plan"
    if not steps <= planned:
        yield "its curves have evaluations that are not planned"
    if not np.isfinite(curves["value"].astype(float)).all():
        if done:
            yield "its curves have numbers that are not finite, and it is called done"
        curves = curves[np.isfinite(curves["value"].astype(float))]
    if curves.duplicated(["step", "split", "metric"]).any():
        yield "its curves have two values of one quantity"
        return
    seconds = curves.groupby("step")["seconds"].max()
    if (seconds < 0).any() or (seconds.diff() < 0).any():
        yield "its clock goes backwards"
    table = curves.pivot_table(index=["step", "split"], columns="metric", values="value")
    if {"elbo", "reconstruction", "kl"} <= set(table.columns):
        parts = table["reconstruction"] - table["kl"]
        if not _agree(table["elbo"], parts, scale=table["reconstruction"].abs() + table["kl"].abs()):
            yield "its ELBO is not its reconstruction less its KL"


def _against_gradients(cell: Cell, moments: pd.DataFrame) -> Iterator[str]:
    if moments.empty:
        return
    if moments.duplicated(["step", "trajectory", "space", "group", "statistic"]).any():
        yield "its gradients have two values of one statistic"
        return
    values = moments[np.isfinite(moments["value"].astype(float))]
    if (values.loc[values["statistic"].isin(NEVER_NEGATIVE), "value"] < 0).any():
        yield "a variance is negative"
    ends = values.dropna(subset=["low", "high"])
    slack = ROUNDING * ends["value"].abs()
    if ((ends["low"] > ends["value"] + slack) | (ends["value"] > ends["high"] + slack)).any():
        yield "a value is outside its interval"
    if (moments["replicates"] != cell.probe.replicates).any():
        yield "its gradients have another number of draws than planned"
    index = ["step", "trajectory", "space", "group"]
    table = values.pivot_table(index=index, columns="statistic", values="value")
    if {"variance", "mean_norm2", "snr"} <= set(table.columns):
        table = table[table["variance"] > 0].dropna(subset=["mean_norm2", "snr"])
        ratio = (table["mean_norm2"].clip(lower=0) / table["variance"]) ** 0.5
        if not _agree(table["snr"], ratio, scale=ratio.abs()):
            yield "its signal-to-noise ratio is not that of its mean and variance"


def _agree(one: pd.Series[float], two: pd.Series[float], *, scale: pd.Series[float]) -> bool:
    gap, allowed = (one - two).abs(), ROUNDING * scale + 1e-12
    return bool((gap[gap.notna()] <= allowed[gap.notna()]).all())


def _against_certificates(results: Results, given: list[Any]) -> Iterator[tuple[bool, str]]:
    claims: dict[str, set[str]] = {}
    for record in results.records.values():
        claim = record.get("certificate") or {}
        label = str(record.get("cell", {}).get("estimator", {}).get("label", ""))
        claims.setdefault(label, set()).add(str(claim.get("fingerprint", "")))
    own: dict[str, Certificate] = {}
    for each in given:
        try:
            plain = {name: value for name, value in dict(each).items() if name not in HEADER}
            certificate = validated(Certificate, plain, "certificate")
        except (EstbenchError, TypeError, ValueError) as error:
            yield True, f"a certificate cannot be read: {error}"
            continue
        own[certificate.label] = certificate
    for label, fingerprints in claims.items():
        if len(fingerprints) > 1:
            yield True, f"{label}: its runs are of different sources"
            continue
        parts = certified_parts(label)
        sources = next(iter(fingerprints)).split("+")
        for part, source in zip(parts, [*sources, *[""] * len(parts)], strict=False):
            name = part.partition("[")[0]
            known = [book.get(label) for book in (own, shipped_certificates()) for label in (part, name)]
            matching = [each for each in known if each is not None and each.fingerprint == source]
            if any(each.outcome is CheckOutcome.FAILED for each in matching):
                yield True, f"{part}: its certificate failed"
            elif any(each.outcome is CheckOutcome.PASSED for each in matching):
                continue
            elif part in own:
                yield True, f"{part}: its certificate is of another source than its numbers"
            else:
                yield False, f"{part}: no certificate is known for the source that made its numbers"
