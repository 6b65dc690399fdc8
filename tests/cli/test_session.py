"""A user's sessions: run, add, look, rebuild."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import estbench as package
from estbench.store import load

# The plugin of the design's section 3, word for word.
PLUGIN = '''
from estbench.estimators import Estimator, register

@register("my-reinforce")
class MyReinforce(Estimator):
    """Score function without a baseline: grad E_q[f] = E_q[f(z) grad log q(z)]."""

    summary = "score function, no baseline"
    reference = "williams1992"
    supports = {"normal", "bernoulli", "categorical"}
    unbiased = True
    needs_differentiable_f = False
    evaluations = 1

    def forward(self, objective):
        z = objective.q.sample((1,))
        f = objective.f(z)          # live: carries the decoder's gradient
        return (f + f.detach() * objective.q.log_prob(z)).mean(0) - objective.kl()
'''
BREAKS = """
from estbench.estimators import Estimator, register


@register("{name}")
class Breaks(Estimator):
    summary = "breaks"
    supports = {{"normal"}}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1

    def forward(self, objective):
        surrogate = objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()
        {how}
"""
RAISES = BREAKS.format(name="raises", how="raise ValueError('broken on purpose')")
MISSES = BREAKS.format(name="misses", how="open('/no/such/file')")
NAN = BREAKS.format(name="not-finite", how="return surrogate * float('nan')")


def started(folder) -> dict[str, str]:
    """When each cell was computed."""
    return {
        path.parent.name: json.loads(path.read_text())["started"] + str(path.stat().st_mtime_ns)
        for path in folder.glob("cells/*/cell.json")
    }


def statuses(folder) -> dict[str, str]:
    return dict(package.load(folder).cells[["estimator", "status"]].itertuples(index=False))


@pytest.mark.slow
def test_the_main_session(estbench, here, tiny_file):
    """Run one estimator, run again, add another, look at both, and rebuild the report."""
    out = here / "results"
    run = ("run", tiny_file, "--out", out, "--set", "throughput.rounds=2")

    code, said, errors = estbench(*run, "--estimator", "reparam")
    assert (code, errors) == (0, "")
    assert ": 1 run (estimator x seed): 0 already done, 1 to do" in said
    assert "done [1/1] reparam on vae, seed 0" in said
    assert f"report: {out}/report/report.html" in said
    (cell,) = (out / "cells").iterdir()
    assert cell.name.startswith("reparam-vae-s0-")
    assert {path.name for path in cell.iterdir()} == {
        "cell.json",
        "curves.parquet",
        "gradients.parquet",
        "log.txt",
        "pictures.parquet",
    }
    assert {path.name for path in out.iterdir()} == {
        *("experiment.json", "cells", "throughput.parquet", "report"),
        ".printed.json",
    }
    made = {path.name for path in (out / "report").iterdir()}
    assert made == {"report.html", "environment.json", "experiment.json", "tables", "figures"}
    first, rows = started(out), len(package.load(out).throughput)
    assert rows == 2

    code, said, errors = estbench(*run, "--estimator", "reparam")
    assert (code, errors) == (0, "")
    assert ": 1 run (estimator x seed): 1 already done, 0 to do" in said
    assert "done [" not in said
    assert started(out) == first
    assert len(package.load(out).throughput) == rows

    code, said, _ = estbench(*run, "-e", "rloo[num_samples=3]")
    assert code == 0
    assert ": 1 run (estimator x seed): 0 already done, 1 to do" in said
    assert started(out).items() > first.items()
    assert statuses(out) == {"reparam": "done", "rloo[num_samples=3]": "done"}

    code, said, _ = estbench("status", out)
    assert code == 0
    assert "rloo[num_samples=3]" in said
    assert "2 planned: 2 done" in said

    page = out / "report" / "report.html"
    assert "rloo[num_samples=3]" in page.read_text("utf-8")
    page.unlink()
    code, said, _ = estbench("report", out)
    assert code == 0
    assert f"report: {out}/report/report.html" in said
    assert "rloo[num_samples=3]" in page.read_text("utf-8")


@pytest.mark.usefixtures("quick_report")
def test_both_estimators_of_one_command_are_timed_against_each_other(estbench, here, tiny_file):
    estbench("run", tiny_file, "--out", "r", "-e", "reparam", "-e", "stl", "--set", "throughput.rounds=2")
    rounds = package.load("r").throughput
    assert sorted(zip(rounds["estimator"], rounds["round"], strict=True)) == [
        *(("reparam", index) for index in range(2)),
        *(("stl", index) for index in range(2)),
    ]
    assert set(rounds["reference"]) == {"reparam"}
    assert rounds["session"].nunique() == 1
    assert (rounds["seconds"] > 0).all()


@pytest.mark.usefixtures("quick_report")
def test_a_second_run_times_nothing_even_where_the_batch_is_larger_than_the_data(estbench, here, tiny_file):
    run = (
        "run",
        tiny_file,
        "--out",
        "r",
        "--steps",
        2,
        "--set",
        "throughput.rounds=1",
        "--set",
        "training.batch_size=2000",
    )
    assert [estbench(*run).code for _ in range(2)] == [0, 0]
    assert len(package.load("r").throughput) == 1


@pytest.mark.usefixtures("quick_report")
def test_a_plugin_from_start_to_end(estbench, here, tiny_file, plugin):
    path = plugin("my_reinforce.py", PLUGIN)
    assert "my-reinforce" in estbench("list", "estimators", "--plugin", path).out
    assert "Score function without a baseline" in estbench("show", "my-reinforce", "--plugin", path).out
    code, _, errors = estbench("run", tiny_file, "--out", "r", "-e", "my-reinforce", "-e", "reparam", "--plugin", path)
    assert (code, errors) == (0, "")
    assert statuses("r") == {"my-reinforce": "done", "reparam": "done"}


@pytest.mark.slow
def test_a_report_needs_no_plugin(here, tiny_file, plugin, environment):
    path = plugin("my_reinforce.py", PLUGIN)
    package.run(tiny_file, out="r", plugins=[path])
    package.run({**package_data(tiny_file), "estimators": ["my-reinforce"]}, out="r")
    done = subprocess.run(
        [sys.executable, "-m", "estbench", "report", "r"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "my-reinforce" in done.stdout


def package_data(path):
    import tomllib

    return tomllib.loads(path.read_text())


@pytest.mark.usefixtures("quick_report")
def test_flags_override_the_file(estbench, here, tiny_file):
    code, _, errors = estbench(
        *(
            "run",
            tiny_file,
            "--out",
            "r",
            "--seeds",
            "2,5",
            "--steps",
            "3",
            "-e",
            "stl",
            "--set",
            "training.batch_size=8",
        ),
        *("--problem", "vae[dataset=digits,hidden=[4],latent_size=3]", "--set", "probe.replicates=0"),
    )
    assert (code, errors) == (0, "")
    results = package.load("r")
    assert results.cells["seed"].tolist() == [2, 5]
    assert results.cells["step"].tolist() == [3, 3]
    assert results.cells["examples"].tolist() == [24, 24]
    assert set(results.cells["problem"]) == {"vae[dataset=digits,latent_size=3,hidden=[4]]"}
    assert len(results.gradients) == 0


@pytest.mark.usefixtures("quick_report")
def test_results_go_to_a_folder_named_after_the_experiment(estbench, here, tiny_file):
    assert estbench("run", tiny_file, "--seeds", "2").code == 0
    assert len(package.load("results/tiny").cells) == 2


@pytest.mark.usefixtures("quick_report")
def test_force_computes_again(estbench, here, tiny_file):
    run = ("run", tiny_file, "--out", "r", "-e", "reparam")
    estbench(*run)
    first = started(here / "r")
    code, said, _ = estbench(*run, "--force")
    assert code == 0
    assert "0 already done, 1 to do" in said
    assert started(here / "r").keys() == first.keys()
    assert started(here / "r") != first


def test_a_dry_run_writes_nothing(estbench, here, tiny_file):
    code, said, errors = estbench("run", tiny_file, "--dry-run", "--seeds", 3, "-e", "reparam", "-e", "stl")
    assert (code, errors) == (0, "")
    assert "6 runs of 30 steps; nothing was computed" in said
    assert said.count("to run") == 6
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("quick_report")
def test_what_is_kept_when_asked(estbench, here, tiny_file):
    estbench("run", tiny_file, "--out", "r", "--keep-checkpoints")
    assert len([*here.glob("r/cells/*/checkpoint.pt")]) == 1


# What goes wrong within a cell


@pytest.mark.usefixtures("quick_report")
def test_a_diverged_cell_is_a_result_and_the_others_go_on(estbench, here, tiny_file, plugin):
    run = ("run", tiny_file, "--out", "r", "-e", "not-finite", "-e", "reparam", "--plugin", plugin("p.py", NAN))
    code, said, errors = estbench(*run)
    assert (code, errors) == (0, "")
    assert "diverged [1/2] not-finite on vae, seed 0" in said
    assert "not finite at step 1" in said
    assert statuses("r") == {"not-finite": "diverged", "reparam": "done"}
    assert "2 already done, 0 to do" in estbench(*run).out


@pytest.mark.usefixtures("quick_report")
@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("raises", RAISES, "ValueError: broken on purpose"),
        ("misses", MISSES, "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'"),
    ],
)
def test_a_failed_cell_is_told_and_the_others_go_on(estbench, here, tiny_file, plugin, name, text, complaint):
    run = ("run", tiny_file, "--out", "r", "-e", name, "-e", "reparam", "--plugin", plugin("p.py", text))
    code, said, errors = estbench(*run)
    assert code == 1
    assert f"failed [1/2] {name} on vae, seed 0" in said
    assert errors.startswith(f"failed: {name} on vae, seed 0: ")
    assert complaint in errors
    assert f"(see {name}-vae-s0-" in errors  # the folder of its record
    assert errors.splitlines()[1:] == ["1 of 2 runs has no result; run again to compute it"]
    assert statuses("r") == {name: "failed", "reparam": "done"}
    (record,) = (json.loads(path.read_text()) for path in here.glob(f"r/cells/{name}-*/cell.json"))
    assert "p.py" in record["error"]["traceback"]

    code, said, _ = estbench(*run)
    assert code == 1
    assert "2 runs (estimator x seed): 1 already done, 1 to do" in said


@pytest.mark.usefixtures("quick_report")
def test_a_mended_estimator_is_run_again(estbench, here, tiny_file, plugin):
    path = plugin("p.py", RAISES)
    assert estbench("run", tiny_file, "--out", "r", "-e", "raises", "--plugin", path).code == 1
    path.write_text(RAISES.replace("raise ValueError('broken on purpose')", "return surrogate"))
    assert estbench("run", tiny_file, "--out", "r", "-e", "raises", "--plugin", path).code == 0
    assert statuses("r") == {"raises": "done"}


@pytest.mark.usefixtures("quick_report")
def test_a_run_is_not_failed_by_a_cell_that_it_was_not_asked_for(estbench, here, tiny_file, plugin):
    assert estbench("run", tiny_file, "--out", "r", "-e", "raises", "--plugin", plugin("p.py", RAISES)).code == 1
    assert estbench("run", tiny_file, "--out", "r", "-e", "reparam").code == 0
    assert statuses("r") == {"raises": "failed", "reparam": "done"}


@pytest.mark.parametrize("name", ["rloo[num_samples=4]", "a[/b]", "with space", "[bold]"])
@pytest.mark.usefixtures("quick_report")
def test_a_folder_may_have_any_name(estbench, here, tiny_file, name):
    code, said, errors = estbench("run", tiny_file, "--out", name, "--steps", 2)
    assert (code, errors) == (0, "")
    assert f"report: {name}/report/report.html" in said
    for command in ("status", "report"):
        code, said, errors = estbench(command, name)
        assert (code, errors) == (0, "")
        assert name in said


@pytest.mark.usefixtures("quick_report")
def test_what_is_said_of_another_question_is_dropped(estbench, here):
    """The quickstart's question and expectation are about its own estimators on its own problem."""
    small = ["--problem", "gaussian_toy", "-e", "reparam", "--steps", "2", "--set", "throughput.rounds=0"]
    assert estbench("run", *small, "--out", "results/mine").code == 0
    recorded = load(here / "results" / "mine").plan["experiment"]
    assert (recorded["name"], recorded["question"], recorded["expect"]) == ("mine", "", "")
    asked = estbench("run", *small, "--out", "results/asked", "--set", "question=Is mine better?")
    assert asked.code == 0
    assert load(here / "results" / "asked").plan["experiment"]["question"] == "Is mine better?"


@pytest.mark.usefixtures("quick_report")
def test_a_report_of_other_results_is_named_before_it_is_replaced(estbench, here, tiny_file):
    report = here / "results" / "tiny" / "report"
    report.mkdir(parents=True)
    (report / "report.html").write_text("of others")
    answer = estbench("run", tiny_file, "-e", "reparam", "--out", "results/tiny")
    assert answer.code == 0
    assert "is of other results, whose runs are not here: it is replaced" in " ".join((answer.out + answer.err).split())
