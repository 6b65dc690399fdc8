"""``estbench probe``: variance, bias and cost at frozen weights, on a terminal, for programs and on disk."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

TINY = ("--problem", "vae[dataset=digits,hidden=[8],latent_size=2]", "--batch-size", "12", "--replicates", "20")
BITS = ("--problem", "vae[dataset=digits,hidden=[4],latent_size=3,latents=bernoulli,kl=sampled]", "--batch-size", "4")


def test_it_shows_a_table_a_share_and_the_path(estbench, here):
    code, out, _ = estbench("probe", "-e", "reparam", "-e", "reinforce[baseline=ema]", *TINY)
    assert code == 0
    assert "Gradient probe" in out
    assert "evaluations" in out
    assert "of the noise is the estimator's" in out
    assert "reparam: fast path" in out
    assert list(here.iterdir()) == []


def test_it_writes_what_it_shows_and_a_figure(estbench, here):
    code, _, err = estbench("probe", "-e", "reparam", "-e", "stl", *TINY, "--out", "p")
    assert code == 0
    names = {path.name for path in (here / "p").iterdir()}
    assert names == {"probe.csv", "probe.md", "moments.csv", "probe.svg", "probe.png"}
    assert err.count("written: ") == 5
    table = pd.read_csv(here / "p" / "probe.csv")
    assert list(table["estimator"].unique()) == ["reparam", "stl"]
    assert (table["variance_x_evaluations"] == table["variance"] * table["evaluations"]).all()
    assert (table["variance_low"] <= table["variance"]).all()
    assert (here / "p" / "probe.png").read_bytes()[:4] == b"\x89PNG"


def test_json_is_for_programs(estbench, here):
    code, out, _ = estbench("probe", *BITS, "-e", "rloo", "--reference", "exact", "--layers", "--json")
    assert code == 0
    data = json.loads(out)
    found = {(row["group"], row["statistic"]) for row in data["rows"]}
    assert {("encoder.0", "bias2"), ("decoder.1", "bias_bound"), ("logits", "cosine")} <= found
    assert data["paths"] == [{"place": "initial weights", "estimator": "rloo", "path": "fast", "reason": ""}]


@pytest.mark.slow
def test_two_layers_of_bits_are_probed_like_one(estbench, here):
    two = ("--problem", "hierarchical_vae[dataset=digits,hidden=[],latent_size=3]", *BITS[2:])
    code, out, _ = estbench("probe", *two, "-e", "disarm", "-e", "rebar", "--reference", "exact", "--json")
    assert code == 0
    data = json.loads(out)
    assert [row["path"] for row in data["paths"]] == ["fast", "fast"]
    assert {("logits", "bias2"), ("encoder", "bias2")} <= {(row["group"], row["statistic"]) for row in data["rows"]}
    code, _, err = estbench("probe", *two, "-e", "concrete[kl=concrete]")
    assert code == 2
    assert "asks for the prior of the first of two layers" in err


def test_it_measures_at_the_weights_that_a_run_kept(estbench, here, tiny_file, quick_report):
    assert estbench("run", tiny_file, "--keep-checkpoints", "--out", "r").code == 0
    (cell,) = (here / "r" / "cells").iterdir()
    wanted = ("probe", "-e", "reparam", "--batch-size", "12", "--replicates", "20", "--json")
    rows = []
    for place in (("--checkpoint", cell / "checkpoint.pt"), ("--results", "r")):
        code, out, _ = estbench(*wanted, *place)
        assert code == 0
        rows.append([{**row, "milliseconds": 0} for row in json.loads(out)["rows"]])
    assert rows[0] == rows[1]
    assert rows[0][0]["place"] == f"step 30 of {cell.name}"
    _, fresh, _ = estbench(*wanted, *TINY[:2])
    assert json.loads(fresh)["rows"][0]["value"] != rows[0][0]["value"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("-e", "reparm"), "unknown estimator 'reparm'; did you mean 'reparam'"),
        (("--replicates", "2"), "2 is not in the range x>=3"),
        (("--checkpoint", "none.pt", "--problem", "vae"), "no checkpoint 'none.pt'"),
        (("--checkpoint", "none.pt"), "does not say of which problem"),
        (("--results", "nowhere"), "is no results folder"),
        (("--results", "a", "--checkpoint", "b"), "--checkpoint and --results exclude each other"),
        (("--results", "a", "--problem", "vae"), "drop --problem"),
        ((*BITS, "-e", "reparam"), "requires a differentiable sample"),
        ((*BITS, "-e", "rloo", "--reference", "reparam"), "requires a differentiable sample"),
        ((*TINY, "--reference", "exact"), "this objective has no exact value"),
        ((*TINY, "--reference", "detached"), "biased itself"),
    ],
)
def test_misuse_is_one_line(refused, arguments, complaint):
    assert complaint in refused("probe", *arguments)


def test_weights_of_another_problem_are_refused(refused, here):
    torch.save({"problem": {"x": torch.zeros(1)}}, here / "other.pt")
    message = refused("probe", "--checkpoint", "other.pt", *TINY)
    assert "the weights in 'other.pt' are not those of" in message


def test_what_is_no_checkpoint_is_refused(refused, here):
    (here / "text.pt").write_text("no checkpoint")
    assert "is not a checkpoint of estbench, is damaged" in refused("probe", "--checkpoint", "text.pt", *TINY)


BROKEN = """
import sys

import torch

from estbench.estimators import Estimator, register
from estbench.problems.problem import register as register_problem
from estbench.problems.vae import VAE


class Broken(Estimator):
    summary = "reparam, until it breaks"
    supports = {"normal"}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1
    calls = 0

    def forward(self, objective):
        type(self).calls += 1
        self.fault()
        return objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()


@register("raises")
class Raises(Broken):
    def fault(self):
        raise ValueError("broken [on]\\npurpose")


@register("leaves")
class Leaves(Broken):
    def fault(self):
        sys.exit(7)


@register("late")
class Late(Broken):
    def fault(self):
        if torch.is_grad_enabled() and self.calls > 70:
            raise KeyError("while it is timed")


@register("builds")
class Builds(Broken):
    def prepare(self, objective):
        raise RuntimeError("cannot be prepared")


@register_problem("unbuilt")
class Unbuilt(VAE):
    def __init__(self, options=None):
        raise ZeroDivisionError("no such model")
"""


@pytest.fixture
def broken(plugin, monkeypatch):
    """A plugin of estimators that raise; ``late`` does once it is timed."""
    monkeypatch.setattr("estbench.training.frozen.STEPS", 40)
    return ("--plugin", plugin("broken.py", BROKEN))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", "ValueError: broken [on] purpose (broken.py, line"),
        ("leaves", "SystemExit: 7"),
        ("late", "while it is timed"),
        ("builds", "cannot be prepared"),
    ],
)
def test_an_estimator_that_raises_is_a_line_and_the_others_are_probed(estbench, here, broken, name, reason):
    code, out, err = estbench("probe", *TINY, *broken, "-e", name, "-e", "reparam", "--json")
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert line.startswith(f"failed: {name}, initial weights: ")
    assert "Traceback" not in err
    data = json.loads(out)
    assert {row["estimator"] for row in data["rows"]} == {"reparam"}
    assert [(row["name"], row["place"]) for row in data["failed"]] == [(name, "initial weights")]
    assert reason in data["failed"][0]["reason"]
    code, out, err = estbench("probe", *TINY, *broken, "-e", name, "--out", "p")
    assert (code, out, err.count("failed: ")) == (1, "", 1)
    assert list(here.iterdir()) == []


def test_a_reference_that_raises_leaves_bias_out(estbench, here, broken):
    code, out, err = estbench("probe", *TINY, *broken, "-e", "reparam", "--reference", "raises", "--json")
    assert code == 1
    assert "failed: the reference raises, " in err
    assert "variance" in {row["statistic"] for row in json.loads(out)["rows"]}
    assert "bias2" not in {row["statistic"] for row in json.loads(out)["rows"]}


MIXED = """
from torch import nn

from estbench.problems.problem import register
from estbench.problems.vae import VAE


class Centred(nn.Module):
    def forward(self, rows):
        return rows - rows.mean(-2, keepdim=True)


@register("mixed")
class Mixed(VAE):
    def __init__(self, options=None):
        super().__init__(options)
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.PReLU(), Centred(), nn.Linear(8, self.data.size))
"""


def test_a_fast_path_that_there_is_not_is_said_without_a_traceback(estbench, here, plugin):
    place = ("--problem", "mixed[dataset=digits,latent_size=2]", *TINY[2:], "--plugin", plugin("mixed.py", MIXED))
    code, _, err = estbench("probe", *place, "--path", "fast")
    assert (code, err.count("\n")) == (2, 1)
    assert "the fast path of the probe cannot be used" in err
    code, out, _ = estbench("probe", *place)
    assert code == 0
    assert "not measured: data_variance" in out
    assert "of the noise is the estimator's" not in out
    assert "what drawing the minibatch adds" not in out


def test_a_problem_that_cannot_be_built_is_misuse(refused, broken):
    assert "ZeroDivisionError: no such model" in refused("probe", "--problem", "unbuilt[dataset=digits]", *broken)
