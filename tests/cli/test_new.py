"""`estbench new`: files to start from, which work as they are."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from estbench.cli.new import EXERCISES, KINDS
from estbench.store import load

SHORT = ("--steps", "10", "--set", "evaluation.examples=20", "--set", "evaluation.num_samples=2")
QUIET = ("--set", "probe.replicates=0", "--set", "throughput.rounds=0", "--out", "results/x")
# Each takes half a minute in processes of its own, so the quick run has one.
EVERY_KIND = [pytest.param(kind, marks=[] if kind == "network" else [pytest.mark.slow]) for kind in KINDS]


def test_every_kind_has_its_two_templates():
    import estbench.cli

    folder = Path(estbench.cli.__file__).parent / "_templates"
    templates = {f"{prefix}{kind}.py.txt" for kind in KINDS for prefix in ("", "test_")}
    exercises = {"test_exercise.py.txt", *(f"exercise_{name}.py.txt" for name in EXERCISES)}
    assert {path.name for path in folder.iterdir()} == templates | exercises


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_test_that_new_writes_passes(estbench, here, environment, kind):
    code, said, errors = estbench("new", kind, f"my-{kind}")
    assert (code, errors) == (0, "")
    assert sorted(path.name for path in here.iterdir()) == [f"my_{kind}.py", f"test_my_{kind}.py"]
    command = next(line.partition(":")[2] for line in said.splitlines() if line.startswith("test it:"))
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:], "-q", "-p", "no:cacheprovider"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.usefixtures("plugin", "quick_report")
def test_the_commands_that_new_prints_work(estbench, here, kind):
    said = estbench("new", kind, f"my-{kind}").out
    commands = [line.partition(": ")[2] for line in said.splitlines() if ": " in line and " estbench " in line]
    assert commands
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "estbench"
        small = [*SHORT, *QUIET] if arguments[0] == "run" else []
        code, _, errors = estbench(*arguments, *small)
        assert (code, errors) == (0, "")
    results = load("results/x")
    assert set(results.cells["status"]) == {"done"}
    assert all(not record["remarks"] for record in results.records.values())
    if kind == "estimator":
        certified = {record["cell"]["estimator"]["name"]: record["certificate"] for record in results.records.values()}
        assert certified["my-estimator"]["status"] == "passed"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "write estbench new KIND NAME; a KIND is estimator, network, problem, dataset, metric"),
        (("my-est",), "nothing new of the kind 'my-est'"),
        (("metrics", "x"), "did you mean 'metric'?"),
        (("metric",), "the metric has no name; write estbench new metric NAME"),
        (("estimator", "rloo"), "exists already"),
        (("network", "conv"), "exists already"),
        (("problem", "vae"), "exists already"),
        (("dataset", "digits"), "exists already"),
        (("metric", "sigma"), "exists already"),
        (("estimator", "My-Est"), "invalid estimator name"),
        (("estimator", "2nd"), "invalid estimator name"),
        (("estimator", "none"), "invalid estimator name"),
        (("dataset", "../x"), "invalid dataset name"),
    ],
)
def test_misuse_of_new(refused, arguments, complaint):
    assert complaint in refused("new", *arguments)


@pytest.mark.parametrize("file", ["my_est.py", "test_my_est.py"])
def test_new_overwrites_nothing(refused, here, file):
    (here / file).write_text("mine")
    assert f"'{file}' exists already, and is not overwritten" in refused("new", "estimator", "my-est")
