"""Runs of a stranger that are repeated: to the same bits, or within the spread of their seeds, or they are refused."""

from __future__ import annotations

import json
import shutil
import tomllib

import pandas as pd
import pytest
from conftest import TINY

import estbench
from estbench.execution import verify
from estbench.execution.verify import DIFFERS, NOT_REPEATED, SAME, WITHIN, choose_sample, repeat
from estbench.store import load
from estbench.store.pack import pack

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 10


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    experiment = tomllib.loads(TINY) | {"estimators": ["reparam", "rloo"], "seeds": [0, 1, 2, 3]}
    return estbench.run(experiment, out=tmp_path_factory.mktemp("honest") / "r").path


@pytest.fixture
def folder(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "r")


def one(results, estimator="reparam"):
    return next(cell for cell in choose_sample(results) if cell["estimator"]["label"] == estimator)


def test_the_lowest_seed_of_each_estimator_is_chosen(folder):
    chosen = choose_sample(load(folder))
    assert [(cell["estimator"]["label"], cell["seed"]) for cell in chosen] == [("reparam", 0), ("rloo", 0)]


@pytest.mark.parametrize("steps", [0, STEPS, 10_000])
def test_an_honest_run_has_the_same_bits(folder, tmp_path, steps):
    results = load(pack([folder], tmp_path / "r.zip").path)
    found = repeat(results, one(results), steps)
    planned = results.plan["experiment"]["training"]["steps"]
    assert (found.verdict, found.refused) == (SAME, False), found
    assert found.step <= min(steps, planned)
    assert (found.step == planned) == (steps > planned)


def elsewhere(folder):
    """Let all records be of another machine."""
    for file in folder.glob("cells/*/cell.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        record["environment"] |= {"processor": "another", "device_name": "another"}
        file.write_text(json.dumps(record), encoding="utf-8")


def change_values(folder, pattern, change):
    for file in folder.glob(f"cells/{pattern}/curves.parquet"):
        frame = pd.read_parquet(file)
        frame["value"] = change(frame["value"])
        frame.to_parquet(file, index=False)


def test_other_bits_of_the_same_machine_are_refused(folder):
    change_values(folder, "reparam*s0*", lambda value: value * (1 + 1e-7))
    results = load(folder)
    found = repeat(results, one(results), STEPS)
    assert (found.verdict, found.refused) == (DIFFERS, True)
    assert "same machine and versions, other bits" in found.reason


def test_other_bits_of_another_machine_are_compared_with_the_spread_of_the_seeds(folder):
    change_values(folder, "*", lambda value: value * (1 + 1e-5))
    elsewhere(folder)
    results = load(folder)
    found = repeat(results, one(results), STEPS)
    assert (found.verdict, found.reason) == (WITHIN, "other device_name, processor")


def test_values_outside_the_spread_are_refused_wherever_they_come_from(folder):
    change_values(folder, "reparam*", lambda value: value * 0.5)
    elsewhere(folder)
    results = load(folder)
    found = repeat(results, one(results), STEPS)
    assert found.verdict == DIFFERS
    assert "other device_name, processor, and the" in found.reason
    assert repeat(results, one(results, "rloo"), STEPS).verdict == SAME


def test_rows_that_are_missing_are_refused(folder):
    file = next(folder.glob("cells/reparam*s0*/curves.parquet"))
    frame = pd.read_parquet(file)
    frame[frame["split"] != "validation"].to_parquet(file, index=False)
    results = load(folder)
    assert "other rows" in repeat(results, one(results), STEPS).reason


def test_what_is_not_known_here_is_not_repeated(folder):
    results = load(folder)
    cell = one(results)
    other = {**cell, "estimator": {**cell["estimator"], "name": "my-own", "label": "my-own"}}
    found = repeat(results, other, STEPS)
    assert (found.verdict, found.refused) == (NOT_REPEATED, False)
    assert "--plugin" in found.reason
    older = {**cell, "estimator": {**cell["estimator"], "version": 99}}
    assert "another source or version" in repeat(results, older, STEPS).reason


def test_nothing_is_left_behind_and_the_random_state_is_as_before(folder, monkeypatch):
    import torch

    before = torch.get_rng_state()
    files = sorted(folder.rglob("*"))
    results = load(folder)
    repeat(results, one(results), STEPS)
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(folder.rglob("*")) == files


def test_what_fails_here_is_said(folder, monkeypatch):
    def fail(*_arguments):
        raise ValueError("no luck")

    monkeypatch.setattr(verify, "_run", fail)
    results = load(folder)
    found = repeat(results, one(results), STEPS)
    assert found.verdict == NOT_REPEATED
    assert found.reason.startswith("ValueError: no luck")
