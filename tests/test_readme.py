"""What the README says is true: its example runs, its commands exist, its table is the committed one."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from estbench import estimators
from estbench.cli import COMMANDS, _exit_code
from estbench.store import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "results" / "reparam_vs_reinforce"
REPRODUCTIONS = ROOT / "results" / "reproductions" / "reproductions.md"
TINY = [
    "evaluation.examples=20",
    "evaluation.num_samples=2",
    "probe.replicates=3",
    "probe.points=2",
    "throughput.rounds=0",
]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_the_example_estimator_is_short_and_runs(tmp_path):
    (example,) = [block for block in blocks("python") if "@register(" in block]
    assert len(example.splitlines()) < 30
    plugin = tmp_path / "mirror.py"
    plugin.write_text(example, encoding="utf-8")
    settings = [argument for setting in TINY for argument in ("--set", setting)]
    arguments = [
        "--plugin",
        str(plugin),
        "-e",
        "mirror",
        "-e",
        "reparam",
        "--steps",
        "20",
        "--out",
        str(tmp_path / "out"),
    ]
    problem = ["--problem", "vae[dataset=digits,hidden=[8],latent_size=2]"]
    assert _exit_code(["run", *arguments, *problem, *settings]) == 0
    assert set(load(tmp_path / "out").cells["status"]) == {"done"}


def test_its_commands_for_own_images_run(tmp_path, monkeypatch):
    section = README.partition("## Your own images")[2].partition("\n## ")[0]
    check, run = re.search(r"```sh\n(.*?)\n(.*?)\n```", section).groups()
    monkeypatch.chdir(tmp_path)
    np.savez("faces.npz", images=np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8))
    assert _exit_code(shlex.split(check)[1:]) == 0
    assert _exit_code([*shlex.split(run)[1:], "--dry-run"]) == 0
    assert len(section.splitlines()) <= 25


@pytest.mark.slow
def test_the_example_of_a_metric_and_a_table_runs(tmp_path):
    """In a process of its own, whose registries nobody else sees."""
    (example,) = [block for block in blocks("python") if "@register_metric" in block]
    (tmp_path / "mine.py").write_text(example, encoding="utf-8")
    arguments = ["run", "--plugin", "mine.py", "--metric", "q-scale", "-e", "reparam", "--steps", "20", "--out", "out"]
    problem = ["--problem", "vae[dataset=digits,hidden=[8],latent_size=2]"]
    settings = [argument for setting in TINY for argument in ("--set", setting)]
    command = [sys.executable, "-m", "estbench", *arguments, *problem, *settings]
    done = subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True, text=True)
    assert done.stderr == ""
    written = {path.stem for path in (tmp_path / "out" / "report").rglob("*.csv")}
    assert {"seconds_of_runs", "own_metrics", "metric_steps_q-scale"} <= written


def test_every_command_it_names_exists():
    named = set(re.findall(r"estbench ([a-z]+)\b", " ".join([*blocks("sh"), *re.findall(r"`estbench [^`]*`", README)])))
    assert named == set(COMMANDS)


def test_its_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_its_table_of_results_is_the_committed_one():
    committed = (RESULTS / "report" / "tables" / "summary.md").read_text(encoding="utf-8")
    rows = [line for line in committed.splitlines() if line.startswith("|")]
    assert rows
    assert "\n".join(rows) in README


@pytest.mark.parametrize("experiment", re.findall(r"experiments/[a-z_]+\.toml", README))
def test_every_experiment_it_names_is_there(experiment):
    assert (ROOT / experiment).is_file()


def test_its_table_of_claims_is_a_part_of_the_committed_one():
    section = README.partition("## What the literature claims\n")[2].partition("\n## ")[0]
    shown = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    committed = REPRODUCTIONS.read_text(encoding="utf-8") if REPRODUCTIONS.exists() else ""
    assert bool(shown) == bool(committed)
    assert shown in committed


def test_it_names_every_estimator():
    section = README.partition("## The estimators")[2].partition("\n## ")[0]
    ours = {name for name in estimators.names() if estimators.ESTIMATORS.get(name).__module__.startswith("estbench.")}
    assert ours <= set(re.findall(r"`([a-z-]+)`", section))
