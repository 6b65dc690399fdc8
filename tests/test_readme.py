"""The README is short, its first two commands are the ones to copy, and from it a reader comes to every page."""

from __future__ import annotations

import tomllib

import pytest
from pages import PAGES, ROOT, blocks, links_of, text_of

from estbench.cli import _exit_code
from estbench.store import load

README = text_of("README.md")
TINY = [
    "evaluation.examples=20",
    "evaluation.num_samples=2",
    "probe.replicates=3",
    "probe.points=2",
    "throughput.rounds=0",
]


def test_it_is_short():
    assert len(README.splitlines()) < 200


def test_its_first_two_commands_install_and_run():
    assert blocks(README, "sh")[0].splitlines() == [
        "pip install -c constraints.txt . && estbench run --estimator reparam",
        "pip install -c constraints.txt '.[test]' && pytest",
    ]
    assert "test" in tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]


def test_it_links_to_every_page():
    linked = {target.partition("#")[0] for target in links_of(README)}
    assert set(PAGES) - {"README.md"} <= linked


@pytest.mark.slow
def test_the_example_estimator_is_short_and_runs(tmp_path, forgetful_registries):
    example = blocks(README, "python")[0]
    assert len(example.splitlines()) < 30
    plugin = tmp_path / "mirror.py"
    plugin.write_text(example, encoding="utf-8")
    settings = [f"--set={setting}" for setting in TINY]
    problem = "--problem=vae[dataset=digits,hidden=[8],latent_size=2]"
    chosen = ["-e", "mirror", "-e", "reparam", "--steps", "20", "--out", str(tmp_path / "out")]
    assert _exit_code(["run", "--plugin", str(plugin), *chosen, problem, *settings]) == 0
    assert set(load(tmp_path / "out").cells["status"]) == {"done"}


def test_its_picture_is_there():
    assert (ROOT / "results" / "quickstart.png").is_file()
