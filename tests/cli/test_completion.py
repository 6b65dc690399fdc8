"""What a shell completes, and that it answers at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from estbench.cli.completion import SOURCES, known_names
from estbench.datasets import DATASETS
from estbench.estimators import ESTIMATORS
from estbench.measure import METRICS
from estbench.problems import PARTS, PROBLEMS

# Modules that take long to import.
SLOW = {"torch", "pandas", "numpy", "scipy", "matplotlib"}
REGISTRIES = {
    "estimators": [ESTIMATORS],
    "problems": [PROBLEMS],
    "parts": [*PARTS.values()],
    "datasets": [DATASETS],
    "metrics": [METRICS],
}


def completions(environment, line: str) -> tuple[list[str], set[str]]:
    """What a shell is offered for the last word of a line, and the packages that were loaded for that."""
    words = line.split(" ")
    asking = {"_ESTBENCH_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    script = (
        "import sys; from estbench.cli import _exit_code; code = _exit_code([])\nprint(*sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**environment, **asking}, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    *offered, modules = done.stdout.splitlines()
    return [each for each in offered if each], {name.partition(".")[0] for name in modules.split()}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_names_in_the_source_are_those_of_the_registries(kind):
    registered = [name for registry in REGISTRIES[kind] for name in registry.names()]
    assert sorted({*known_names(kind)}) == sorted({*registered})


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("estbench run -e reinf", ["plain,reinforce", "plain,reinforce-iwae"]),
        ("estbench run --estimator rlo", ["plain,rloo"]),
        ("estbench run --problem hier", ["plain,hierarchical_vae"]),
        ("estbench run papers/iwae_", ["plain,papers/iwae_short"]),
        ("estbench run quick", ["plain,quickstart"]),
        ("estbench run mine", ["file,mine"]),
        ("estbench probe -e disa", ["plain,disarm", "plain,disarm-tree"]),
        ("estbench check reinforce vim", ["plain,vimco"]),
        ("estbench show gaussian_", ["plain,gaussian_toy", "plain,gaussian_zoo"]),
        ("estbench rnu -e reinf", []),
        ("estbench rep", ["plain,report", "plain,reproduce"]),
        ("estbench list exp", ["plain,experiments"]),
    ],
)
def test_a_shell_is_offered_names(environment, line, offered):
    found, loaded = completions(environment, line)
    assert found == offered
    assert not SLOW & loaded


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(environment, shell):
    script = "import sys; from estbench.cli import _exit_code; sys.exit(_exit_code([]))"
    asking = {**environment, "_ESTBENCH_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-c", script], env=asking, capture_output=True, text=True, check=True)
    assert f"_ESTBENCH_COMPLETE={shell}_complete" in done.stdout
