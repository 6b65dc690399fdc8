"""Older documents brought up to date as they are read: one step for each schema version, applied in order.

A step changes what is in memory alone. The files stay as they are until a run writes into the folder; it then records
its plan anew and renames the cells whose keys have changed (``ResultsFolder.record_plan``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estbench.experiment import SCHEMA_VERSION
from estbench.experiment.plan import PROTOCOL, cell_from_record, protocol_hash
from estbench.store.plans import factored

Document = dict[str, Any]

# Options that came with schema 2, with the values that stand for what was computed before there was a choice.
NEW_OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("problem", "vae"): {
        "likelihood": "bernoulli",
        "latents": "normal",
        "categories": 10,
        "prior": "fixed",
        "coding": "binary",
        "importance_samples": 1,
    },
    ("estimator", "reinforce"): {"normalise": False, "baseline_draws": 10},
}

# The cards of the datasets of schema 1, and of what was fixed of its models.
CARDS = {
    "mnist5k": "mnist5k-v1-dynamic-per-class",
    "digits": "digits-v1-dynamic-shuffled",
    "mnist": "mnist-v1-dynamic-rows",
    "fashion_mnist": "fashion_mnist-v1-dynamic-rows",
}
MODEL = "normal-fixed-binary"


def _from_1(document: Document) -> Document:
    """Problems gained options, which are part of a cell's key; plans write what cells share once."""
    if "cells" not in document:
        return {**document, "cell": _with_new_options(document["cell"])} if "cell" in document else document
    cells = [{**_with_new_options(cell), "was": cell["folder"]} for cell in document["cells"]]
    protocol = protocol_hash({part: cells[0][part] for part in PROTOCOL}, ()) if cells else ""
    return {**document, "protocol": protocol, **factored(cells)}


def _with_new_options(cell: Document) -> Document:
    """A cell of schema 1 with its options spelled out as today, and so with today's key and folder."""
    kinds = {kind: dict(cell[kind]) for kind in ("estimator", "problem")}
    for kind, variant in kinds.items():
        variant["options"] = NEW_OPTIONS.get((kind, variant["name"]), {}) | variant["options"]
    problem = kinds["problem"]
    if problem["name"] == "vae" and problem["options"].get("dataset") in CARDS:
        problem["card"] = f"{CARDS[problem['options']['dataset']]}-{MODEL}"
    return cell_from_record({**cell, **kinds}).as_dict()


STEPS: dict[int, Callable[[Document], Document]] = {1: _from_1}


def migrate(document: Document) -> Document:
    """The document as this schema writes it; may raise what reading damaged data raises."""
    for version in range(int(document["schema"]), SCHEMA_VERSION):
        document = STEPS[version](document)
    return {**document, "schema": SCHEMA_VERSION}
