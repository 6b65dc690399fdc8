"""What the tests share: an experiment of a tenth of a second, and plugins that leave no trace."""

from __future__ import annotations

import gc
import os
import sys
import textwrap
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Tests run in as many processes as there are cores: one thread each, here and in what they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from estbench.experiment import Cell


def pytest_configure(config: pytest.Config) -> None:
    """Make the simulated accelerator first: torch takes no device after its first backward call."""
    if config.getoption("dist", "no") != "no":
        return  # this process only hands out tests
    from estbench.certify.simulated_device import register

    register()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make all but the first n cases of a test with the marker ``slow_after(n)`` slow."""
    seen: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("slow_after")
        if marker is not None:
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > marker.args[0]:
                item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Let Python look for garbage less often, and never among what was imported: that took an eighth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give one process all tests of a file that share a fixture, all of reports, all that compile; others one by one.

    The first compiled step of a process takes seconds.
    """
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def shares(file: str) -> bool:
        return 'scope="module"' in (config.rootpath / file).read_text(encoding="utf-8")

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file.startswith("tests/report/"):
                return "tests/report"
            if file in {"tests/training/test_compiled.py", "tests/execution/test_throughput.py"}:
                return "tests that compile"
            return file if shares(file) else nodeid

    return Scheduling(config, log)


# A variational autoencoder of 64-8-2 pixels, units and latents, on digits that ship with scikit-learn.
TINY = """
name = "tiny"
estimators = ["reparam"]
problems = ["vae[dataset=digits,hidden=[8],latent_size=2]"]
seeds = [0]

[training]
steps = 30
batch_size = 16

[evaluation]
every = 10
num_samples = 2
examples = 20

[probe]
replicates = 3
points = 2

[throughput]
rounds = 0
steps = 2
"""


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The tiny experiment as plain data; a test may change its copy."""
    return tomllib.loads(TINY)


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """The tiny experiment as a file."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def make_cell(tiny: dict[str, Any]) -> Callable[..., Cell]:
    """Make the cell of an estimator, on the tiny problem or another one, with changes by dotted key."""
    from estbench import estimators, problems
    from estbench.experiment import make_plan
    from estbench.experiment.spec import experiment_from

    def make(estimator: str = "reparam", problem: str = "", **changes: Any) -> Cell:
        overrides = {key.replace("__", "."): value for key, value in changes.items()}
        overrides |= {"estimators": [estimator]} | ({"problems": [problem]} if problem else {})
        experiment = experiment_from(tiny, overrides)
        return make_plan(experiment, estimators.ESTIMATORS.resolve, problems.PROBLEMS.resolve).cells[0]

    return make


@pytest.fixture
def forgetful_registries() -> Iterator[None]:
    """Forget after the test what it registers."""
    from estbench import datasets, estimators, measure, problems

    registries = [datasets.DATASETS, estimators.ESTIMATORS, measure.METRICS, problems.PROBLEMS]
    registries += problems.PARTS.values()
    known = [dict(registry._entries) for registry in registries]
    yield
    for registry, entries in zip(registries, known, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


@pytest.fixture
def plugin(tmp_path: Path, forgetful_registries: None) -> Iterator[Callable[[str, str], Path]]:
    """Write a plugin file; what it registers is forgotten after the test."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    yield write
    for module in [name for name in sys.modules if name.startswith("estbench_plugin_")]:
        del sys.modules[module]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep torch on one thread, for models so small that a second one costs more than it brings."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _versions_are_read_once() -> Iterator[None]:
    """Read the versions of packages, which each record has, once and not for each cell."""
    from estbench.measure import environment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "_version", cache(environment._version))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """Do not wait until what is written is on disk, which took four fifths of the time of writing.

    Commands in processes of their own do wait, and a test of a full disk has a function of its own here.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_process_draws() -> Iterator[None]:
    """Do not start a second process for a report: it loads the plots again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("estbench.report.helper.usable_cores", lambda: 1)
        yield


@pytest.fixture(autouse=True)
def _no_width(monkeypatch) -> None:
    """Lines are as long as they are; what runs the tests may say how wide its terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What a subprocess needs to import estbench, installed or from the source tree."""
    import estbench

    source = str(Path(estbench.__file__).parents[1])
    path = os.pathsep.join(part for part in (source, os.environ.get("PYTHONPATH")) if part)
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def largest_z() -> Callable[..., float]:
    """Any of ``tests`` z-scores of true hypotheses exceeds this with probability 1e-4 at most (Bonferroni)."""
    from oracles import z_scores

    return z_scores.largest_z
