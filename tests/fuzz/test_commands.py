"""Whatever is wrong with a folder: a command reads it, or says in a line why not, and touches nothing else.

Every case is made from a seed, which a failure names: ``pytest -m fuzz -k status-17`` runs the hundred around it again.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import time
from pathlib import Path

import counting
import pytest
import records
from mutations import damage

from estbench import cli
from estbench.certify.record import save_certificate, shipped_certificates
from estbench.experiment import SCHEMA_VERSION

pytestmark = pytest.mark.fuzz

CASES = int(os.environ.get("ESTBENCH_FUZZ_CASES", "2000"))
# With all figures and the page, which read no more than the tables do. PNG and PDF are the same figures again.
DRAWN_CASES = 50
FEW_CASES = 20  # of what computes and draws
SHARD = 100
MOST_SECONDS = 10.0  # of processor time
MOST_GROWTH = 300 * 1024  # kB of memory, over all cases of a shard
PROBED = """
name = "probed"
estimators = ["reparam"]
problems = ["vae[dataset=digits,hidden=[4],latent_size=2]"]
seeds = [0]
training = {steps = 1, batch_size = 8}
evaluation = {every = 1, num_samples = 2, final_num_samples = 0}
probe = {replicates = 0}
throughput = {rounds = 0}
"""


def loaded(path):
    from estbench import EstbenchError
    from estbench.store import load

    try:
        results = load(path)
        assert [len(frame) >= 0 for frame in (results.cells, results.curves, results.gradients, results.throughput)]
    except EstbenchError as error:
        assert str(error)  # noqa: PT017
        return 2
    return 0


def command(*arguments):
    return lambda path: cli._exit_code([each.format(path) for each in arguments])


def results_folder(root):
    """Two estimators, with leftovers of killed runs; with one seed in the first, and three in the second."""
    for seeds in (1, 3):
        path = root / f"r{seeds}"
        with pytest.MonkeyPatch.context() as patch:  # each group costs a report time
            patch.setattr(records, "GROUPS", {("weights", "encoder"): 1.0, ("params", "loc"): 0.02})
            records.write_results(
                path,
                ("reparam", "stl"),
                seeds,
                rounds=seeds,
                training={"steps": 2},
                evaluation={"every": 1},
                probe={"points": 1, "replicates": 5},
            )
        finished = sorted((path / "cells").iterdir())
        shutil.copytree(finished[0], path / "cells" / f".{finished[0].name}.partial")
        (path / "cells" / f".{finished[1].name}.attempts").write_text("no checkpoint\n")
        (path / f".x.{'0' * 16}.tmp").write_text("half")
        (path / "report" / "tables").mkdir(parents=True)
        (path / "report" / "tables" / "old.csv").write_text("old")
    return [*[root / "r1"] * 7, root / "r3"]


def probed_folder(root):
    """A cell that kept its checkpoint."""
    (root / "probed.toml").write_text(PROBED)
    path = root / "probed"
    assert cli._exit_code(["run", str(root / "probed.toml"), "--out", str(path), "--keep-checkpoints"]) == 0
    shutil.rmtree(path / "report", ignore_errors=True)
    return [path]


def certificates_folder(root):
    """What ``estbench check reparam`` leaves in ``results/``."""
    save_certificate(shipped_certificates()["reparam"], root / "results" / "certificates")
    return [root / "results"]


def reproduced_folder(root):
    """Two results of cards with a figure each."""
    path = root / "reproduced"
    for name in ("counting", "again"):
        assert cli._exit_code(["reproduce", str(counting.write(root, name)), "--out", str(path)]) == 0
    for each in (path / "figures", *path.glob("reproductions.*")):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    return [path]


def tabled(path):
    """All that ``estbench reproduce`` does with earlier results, but for the figures and the page."""
    from estbench import EstbenchError
    from estbench.reproduce import read_card
    from estbench.reproduce.results import read_results
    from estbench.reproduce.tables import checks_table, sort_results

    warnings = []
    try:
        results = read_results(path, warnings.append)
    except EstbenchError as error:
        assert str(error)  # noqa: PT017
        return 2
    assert len(warnings) + len(results) <= 3
    assert checks_table(sort_results(results, [read_card("counting.toml")])).to_csv()
    return 0


PLANNED = ["-e", "reparam", "-e", "stl", "--seeds", "2", "--steps", "2", "--dry-run"]
# By its name: what is run, on which folder, and how many cases of it.
COMMANDS = {
    "load": (loaded, results_folder, CASES),
    "status": (command("status", "{}"), results_folder, CASES),
    "status-json": (command("status", "{}", "--json"), results_folder, SHARD),
    "compare": (command("compare", "{}", "reparam", "stl"), results_folder, CASES),
    "diff": (command("diff", "{}", "other"), results_folder, CASES),
    "diff-markdown": (command("diff", "other", "{}", "--format", "md"), results_folder, SHARD),
    "merge": (command("merge", "{}", "other", "--out", "merged"), results_folder, CASES),
    "clean": (command("clean", "{}", "--yes"), results_folder, CASES),
    "report": (command("report", "{}", "--format", "md,tex"), results_folder, CASES),
    "report-drawn": (command("report", "{}", "--format", "html,csv,md,tex,svg"), results_folder, DRAWN_CASES),
    "site": (command("site", "{}", "-o", "site", "--no-figures"), results_folder, CASES),
    "probe": (
        command("probe", "--results", "{}", "--replicates", "3", "--batch-size", "2", "--tracking-steps", "0"),
        probed_folder,
        CASES,
    ),
    "run": (command("run", *PLANNED, "--out", "{}"), results_folder, CASES),
    "run-computed": (command("run", "probed.toml", "--out", "{}"), probed_folder, FEW_CASES),
    "reproduce": (tabled, reproduced_folder, CASES),
    "reproduce-drawn": (command("reproduce", "counting.toml", "--out", "{}"), reproduced_folder, FEW_CASES),
    "show": (command("show", "reparam"), certificates_folder, CASES),
    "check": (command("check", "reparam"), certificates_folder, CASES),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Whole folders by how they are made, each made once; old enough for ``clean``."""
    made = {}

    def make(how):
        if how not in made:
            root = tmp_path_factory.mktemp("fuzz")
            made[how] = how(root)
            for each in root.rglob("*"):
                os.utime(each, (1, 1))
        return made[how]

    return make


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where cases are run: a working folder, and the user's own files, which nothing may change."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "victim.json").write_text(json.dumps({"schema": SCHEMA_VERSION, "secret": 4711}))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    # To find out whether an estimator is right is not what is tried here.
    monkeypatch.setattr(
        "estbench.certify.certify_each", lambda labels, _plugins: [shipped_certificates()[each] for each in labels]
    )
    return tmp_path


def snapshot(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("name", "shard"), [(name, shard) for name, (*_, cases) in COMMANDS.items() for shard in range(-(-cases // SHARD))]
)
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(900)
def test_commands(bases, place, capfd, name, shard):
    run, how, cases = COMMANDS[name]
    folders = bases(how)
    shutil.copytree(folders[0], "other")
    Path("probed.toml").write_text(PROBED)
    counting.write(Path())
    mine, others = snapshot(place / "own"), snapshot(Path("other"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(shard * SHARD, min((shard + 1) * SHARD, cases)):
        seed = f"{name} {case}"
        rng = random.Random(seed)
        base = folders[case % len(folders)]
        path = Path("results")
        for each in (path, Path("merged")):
            shutil.rmtree(each, ignore_errors=True)
        shutil.copytree(base, path)
        damage(rng, path, place / "own" / "victim.json")
        began = time.process_time()
        try:
            code = run(path)
        except Exception as error:
            raise AssertionError(f"case '{seed}' raised {type(error).__name__}: {error}") from error
        errors = capfd.readouterr().err
        assert code in {0, 1, 2}, (seed, errors[-500:])
        assert "Traceback" not in errors, (seed, errors[-1500:])
        assert time.process_time() - began < MOST_SECONDS, seed
        assert snapshot(place / "own") == mine, seed
        assert {each.name for each in Path().iterdir()} <= {
            "results",
            "other",
            "merged",
            "site",
            "probed.toml",
            "counting.toml",
            "counting.py",
        }, seed
    assert snapshot(Path("other")) == others
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH
