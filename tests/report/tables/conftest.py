"""Experiments of many kinds, and all of their tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from records import ESTIMATORS, analyse, write_results

from estbench.report.tables import all_tables

MANY = [*ESTIMATORS, "rloo[num_samples=8]", "arm", "straight-through", "gumbel-softmax[temperature=0.5]"]
PROBLEMS = [f"vae[dataset=mnist,hidden=[200],importance_samples={size}]" for size in (5, 50)]
FOLDERS = {
    "many": {"estimators": [*MANY, "reinforce[baseline=nvil]", "disarm"], "seeds": 3, "final_num_samples": 1000},
    "problems": {"estimators": MANY[:3], "seeds": 3, "problems": PROBLEMS},
    "one seed": {"estimators": MANY[:2], "seeds": 1},
    "sweep": {"estimators": MANY[:2], "seeds": 3, "sweep": {"learning_rate": [1e-4, 1e-3]}},
    "wild": {"estimators": ESTIMATORS, "seeds": 3, "shared": True},
    "machines": {"estimators": MANY[:2], "seeds": 2, "environments": {1: {"machine": "m-2", "commit": "feedbee"}}},
    "metrics": {"estimators": MANY[:3], "seeds": 3},
    "sizes": {
        "estimators": MANY[:3],
        "seeds": 2,
        "throughput": {"rounds": 4, "batch_sizes": [10, 1000], "modes": ["eager", "compiled"]},
    },
}
METRIC = {"label": "squared error", "unit": "", "better": "lower", "splits": ["train", "test"], "summary": "An error."}


def make_wild(path):
    """Spread seconds and variances over orders of magnitude, estimate below zero, fix a group, let a run collapse."""
    rng = np.random.default_rng(0)
    for file in sorted(path.glob("cells/*/cell.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        record["clocks"]["training"] *= 10 ** rng.normal(0, 1)
        file.write_text(json.dumps(record), encoding="utf-8")
    for file in sorted(path.glob("cells/*/gradients.parquet")):
        frame = pd.read_parquet(file)
        spread = frame["statistic"].isin(["variance", "snr"])
        frame.loc[spread, ["value", "low", "high"]] *= 10 ** rng.normal(0, 1)
        estimated = frame["statistic"].isin(["mean_norm2", "data_variance"])
        frame.loc[estimated, "value"] *= rng.choice([-3.0, 1.0], int(estimated.sum()), p=[0.7, 0.3])
        encoder = frame[(frame["group"] == "encoder") & frame["statistic"].isin(["variance", "mean_norm2"])]
        fixed = encoder.assign(group="prior")
        fixed.loc[fixed["statistic"] == "variance", ["value", "low", "high"]] = 0.0
        pd.concat([frame, fixed]).to_parquet(file, index=False)
    for file in sorted(path.glob("cells/reinforce-*/curves.parquet")):
        frame = pd.read_parquet(file)
        steps, bound = sorted(set(frame["step"])), frame["metric"].isin(["elbo", "iwae"])
        frame.loc[bound & (frame["step"] == steps[-1]), "value"] = -900.0
        frame.loc[
            bound & (frame["step"] == steps[3]), "value"
        ] = -100.0  # before it collapsed, it was above all targets
        frame.to_parquet(file, index=False)


def add_metric(path):
    """Let every run have measured a metric, which falls as its bound rises."""
    for file in sorted(path.glob("cells/*/cell.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**record, "metrics": {"error": METRIC}}), encoding="utf-8")
    for file in sorted(path.glob("cells/*/curves.parquet")):
        frame = pd.read_parquet(file)
        bounds = frame[(frame["metric"] == "elbo") & frame["split"].isin(METRIC["splits"])]
        pd.concat([frame, bounds.assign(metric="error", value=-bounds["value"] / 1e3)]).to_parquet(file, index=False)


@pytest.fixture(scope="session")
def analyses(tmp_path_factory, analysis):
    """The analysis of each kind of experiment; in "broken", a run diverged, one failed and one is missing."""
    found = {"broken": analysis}
    for kind, how in FOLDERS.items():
        path = write_results(tmp_path_factory.mktemp("tables") / "r", **how)
        if kind == "wild":
            make_wild(path)
        if kind == "metrics":
            add_metric(path)
        found[kind] = analyse(path)
    return found


@pytest.fixture(scope="session")
def tables(analyses):
    """All tables, by the kind of the experiment and the name of the table."""
    return {(kind, table.name): table for kind, each in analyses.items() for table in all_tables(each)}
