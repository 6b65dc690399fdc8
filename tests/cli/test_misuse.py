"""Bad input: one clear line, exit code 2, nothing written, nothing lost."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch

COIN = """
from estbench.problems import Problem, register


@register("coin")
class Coin(Problem):
    summary = "a problem with Bernoulli latents"
    latents = "bernoulli"
"""
NO_FACTS = """
from estbench.estimators import Estimator, register


@register("silent")
class Silent(Estimator):
    summary = "says too little"
"""
QUIET = """
from estbench.estimators import Estimator, register


@register("quiet")
class Quiet(Estimator):
    summary = "does not say what it costs"
    supports = {"normal"}
    unbiased = True
    needs_differentiable_f = True

    def forward(self, objective):
        return objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()
"""

pytestmark = pytest.mark.usefixtures("quick_report")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the first test that needs a finished cell leaves a copy for the others."""
    return tmp_path_factory.mktemp("finished") / "r"


@pytest.fixture
def finished(estbench, here, tiny_file, kept):
    """A results folder with a finished cell."""
    if not kept.exists():
        assert estbench("run", tiny_file, "--out", kept, "--steps", 2).code == 0
    return shutil.copytree(kept, here / "r")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-e", "reparm"], "unknown estimator 'reparm'; did you mean 'reparam'?"),
        (["-e", "rloo[samples=3]"], "unknown key 'samples'; did you mean 'num_samples'?"),
        (["-e", "rloo[num_samples=three]"], 'num_samples: input should be a valid integer, got "three"'),
        (["-e", "rloo[num_samples=3"], "cannot read 'rloo[num_samples=3'"),
        (["-e", "rloo", "-e", "rloo[num_samples=2]"], "are the same estimator; remove one"),
        (["-e", "rloo", "-e", "rloo"], "is given twice: rloo"),
        (["--problem", "vea"], "unknown problem 'vea'; did you mean 'vae'?"),
        (["--problem", "vae[dataset=digit]"], "unknown dataset 'digit'; did you mean 'digits'?"),
        (["--problem", "vae[latent_size=0]"], "latent_size: input should be greater than or equal to 1, got 0"),
        (["--problem", "vae[dataset=mnist]"], "run `estbench data fetch`, or set ESTBENCH_DATA_DIR"),
        (["--seeds", "0"], "seeds: needs at least one seed"),
        (["--seeds", "-1"], "seeds: needs at least one seed, got -1"),
        (["--seeds", ""], "seeds"),
        (["--seeds", "one"], "cannot read --seeds 'one'; write a number of seeds, or seeds like 0,1,2"),
        (["--seeds", "1,1"], "seeds: is given twice: 1"),
        (["--seeds", "1,-1"], "seeds.1: input should be greater than or equal to 0, got -1"),
        (["--steps", "-5"], "training.steps: input should be greater than or equal to 1, got -5"),
        (["--steps", "0"], "training.steps: input should be greater than or equal to 1, got 0"),
        (["--steps", "many"], "'many' is not a valid integer"),
        (["--set", "training.stpes=5"], "unknown key 'training.stpes'; did you mean 'steps'?"),
        (["--set", "training.steps"], "cannot read '--set training.steps'; write --set key=value"),
        (["--set", "training.learning_rate=fast"], 'learning_rate: input should be a valid number, got "fast"'),
        (["--set", "training=5"], "training: "),
        (["--set", "throughput.reference=reparm"], "unknown estimator 'reparm'"),
        (["--plugin", "none.py"], "no plugin file 'none.py'; --plugin takes the path of a Python file"),
        (["--jobs", "0"], "--jobs 0: give at least 1"),
        (["--threads", "0"], "--threads 0: give at least 1"),
        (["--timeout", "0"], "--timeout 0: give seconds, more than 0"),
        (["--timeout", "nan"], "--timeout nan: give seconds, more than 0"),
        (["--slurm", "none.toml"], "no SLURM file 'none.toml'; --slurm takes the path of a TOML file"),
        (["--slurm", "s.toml", "--jobs", "2"], "--slurm goes with neither --jobs nor --cluster"),
        (["--device", "tpu"], "--device tpu: no such device; take auto, cpu, cuda"),
        (["--estimaotr", "reparam"], "No such option"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_a_mistake_in_a_run(refused, finished, tiny_file, arguments, complaint):
    assert complaint in refused("run", tiny_file, "--out", "r", *arguments)
    assert complaint in refused("run", tiny_file, "--out", "new", *arguments)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["--frobnicate"], "No such option"),
        (["run", "quikstart"], "no experiment file or ready experiment 'quikstart'; did you mean 'quickstart'?"),
        (["run", "none.toml"], "no experiment file 'none.toml'; see `estbench list experiments`"),
        (["run", "x" * 300], "xxx': File name too long"),
        (["run", "quickstart", "--out", "x" * 300], "File name too long"),
        (["show", "reparm"], "nothing is called 'reparm'; did you mean 'reparam'?"),
        (["show"], "Missing argument"),
        (["list", "estimator"], "'estimator' is not one of"),
        (["status"], "Missing argument"),
        (["status", "none"], "'none' is no results folder: it has no experiment.json; make one with `estbench run`"),
        (["status", "."], "is no results folder"),
        (["report", "none"], "'none' is no results folder"),
    ],
)
def test_a_mistake_in_a_command(refused, arguments, complaint):
    assert complaint in refused(*arguments)


@pytest.mark.parametrize("text", ["name = ", "[training", "seeds = 1\nseeds = 2"])
def test_a_malformed_file(refused, here, text):
    (here / "bad.toml").write_text(text)
    assert "'bad.toml' is not valid TOML: " in refused("run", "bad.toml")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device(refused, tiny_file):
    assert "--device cuda: this torch is built without CUDA; use --device cpu or auto" in refused(
        "run", tiny_file, "--device", "cuda"
    ).replace("torch finds no CUDA device", "this torch is built without CUDA")


def test_an_estimator_that_cannot_do_the_problems_latents(refused, tiny_file, plugin):
    coin = plugin("coin.py", COIN)
    said = refused("run", tiny_file, "--plugin", coin, "--problem", "coin")
    assert "'reparam' requires a differentiable sample" in said
    assert "'coin' has bernoulli latents" in said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\n1 / 0\n", "plugin 'mine.py', line 2: ZeroDivisionError: division by zero"),
        ("def (", "plugin 'mine.py': SyntaxError: invalid syntax (mine.py, line 1)"),
        ("raise SystemExit(0)", "plugin 'mine.py', line 1: SystemExit"),
        (NO_FACTS, "estimator 'silent' does not declare supports, unbiased, needs_differentiable_f"),
    ],
    ids=["raises", "syntax", "exits", "says too little"],
)
def test_a_broken_plugin(refused, here, tiny_file, text, complaint):
    (here / "mine.py").write_text(text)
    assert complaint in refused("run", tiny_file, "--plugin", "mine.py")


def test_an_estimator_that_does_not_say_what_it_costs(refused, tiny_file, plugin):
    path = plugin("quiet.py", QUIET)
    assert "does not declare evaluations" in refused("run", tiny_file, "-e", "quiet", "--plugin", path)


@pytest.mark.parametrize("command", ["status", "report", "run"])
@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("experiment.json", "{", "cannot read 'r/experiment.json'"),
        ("experiment.json", '{"schema": 99}', "has schema 99, and this estbench reads up to 4; upgrade estbench"),
        ("experiment.json", '{"schema": 4}', "its list of cells is damaged"),
        ("experiment.json", '{"schema": 4, "cells": [{"folder": "x"}]}', "cannot read 'r/experiment.json'"),
        ("experiment.json", '{"schema": 2}', "which an earlier estbench wrote"),
        ("cell.json", '{"schema": 99}', "has schema 99, and this estbench reads up to 4; upgrade estbench"),
    ],
)
def test_a_damaged_folder(refused, finished, tiny_file, command, file, content, complaint):
    (path,) = finished.rglob(file)
    path.write_text(content)
    arguments = {"run": ("run", tiny_file, "--steps", 2, "--out", "r")}.get(command, (command, "r"))
    assert complaint in refused(*arguments)


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["again", "forced"])
@pytest.mark.parametrize("file", ["cell.json", "curves.parquet", "gradients.parquet"])
def test_a_damaged_cell_is_named_and_computed_again(estbench, finished, tiny_file, file, options):
    (path,) = finished.rglob(file)
    path.write_bytes(path.read_bytes()[:-5])
    code, _, errors = estbench("report", "r")
    assert code == 2
    assert f"/{file}': " in errors
    assert "run again to recompute it" in errors
    code, said, _ = estbench("status", "r", "--json")
    (cell,) = json.loads(said)["cells"]
    assert (code, cell["status"]) == (0, "missing")
    assert f"/{file}': " in cell["stop_reason"]
    assert estbench("run", tiny_file, "--steps", 2, "--out", "r", *options).code == 0
    assert json.loads(path.with_name("cell.json").read_text())["status"] == "done"
    assert estbench("report", "r").code == 0


def test_a_file_in_place_of_the_folder(refused, here, tiny_file):
    (here / "file").write_text("mine")
    assert "cannot make the results folder 'file'" in refused("run", tiny_file, "--out", "file")
    assert "choose another with --out" in refused("run", tiny_file, "--out", "file/deeper")
    assert "is no results folder" in refused("status", "file")


def test_a_folder_that_cannot_be_made(refused, here, tiny_file, monkeypatch):
    def read_only(self, *_arguments, **_options):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", read_only)
    assert "cannot make the results folder 'new': Read-only file system; choose another with --out" in refused(
        "run", tiny_file, "--out", "new"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_that_may_not_be_written(estbench, finished, tiny_file, mode):
    finished.chmod(mode)
    try:
        code, _, errors = estbench("run", tiny_file, "--out", "r", "--steps", 3)
    finally:
        finished.chmod(0o700)
    assert code in {1, 2}
    assert errors.startswith("Error: cannot ")
    assert errors.count("\n") == 1
