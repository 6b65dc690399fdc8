"""A user's journey: data, network, estimator, metric and figure of one's own, from files to the report's page."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from PIL import Image

from estbench.store import load

# All that the user writes for the model and the data.
MODEL = '''
from torch import nn

from estbench.problems import register_network


@register_network("mine")
def mine(sizes):
    """Convolutions and their transposes, with a batch normalisation and dropout."""
    channels, height, width = sizes.image
    places = 8 * (height // 2) * (width // 2)
    encoder = nn.Sequential(
        nn.Conv2d(channels, 8, 4, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(places, sizes.params),
    )
    decoder = nn.Sequential(
        nn.Linear(sizes.latents, places),
        nn.Unflatten(1, (8, height // 2, width // 2)),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, sizes.outputs[0], 4, stride=2, padding=1),
    )
    return encoder, decoder


PROBLEM = "vae[dataset=file:pictures,network=mine,latent_size=2,likelihood=gaussian]"
'''
REST = '''
import torch

from estbench.estimators import Estimator, register
from estbench.measure import register_metric
from estbench.report import Canvas, Margins, register_figure


@register("mirror")
class Mirror(Estimator):
    """Pathwise gradient averaged over a draw and its mirror image."""

    summary = "pathwise gradient of a draw and its mirror image"
    supports = {"normal"}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 2

    def forward(self, objective):
        z = objective.q.rsample((1,))
        return objective.f(torch.cat([z, 2 * objective.q.mean - z])).mean(0) - objective.kl()


@register_metric("redness", label="red of reconstructions")
def redness(problem, estimator, x):
    return problem.reconstruct(x)[:, : x.shape[1] // 3].mean()


@register_figure(section="metrics", each_problem=False)
def draw_seeds(source):
    """Draw the last step of all runs."""
    cells = source.analysis.cells
    canvas = Canvas.single(2.0, Margins(left=0.12, right=0.03, top=0.2, bottom=0.5))
    canvas.panels[0, 0].plot(cells["seed"], cells["step"], "o")
    words = {"title": "My figure of seeds", "alt": "Steps.", "caption": "All runs.", "reading": "One dot a run."}
    yield canvas.finish(name="seeds", data=cells[["seed", "step"]], **words)
'''
STEPS = 500
SETTINGS = (
    "training.batch_size=16",
    "evaluation.points=2",
    "evaluation.examples=8",
    "evaluation.num_samples=2",
    "probe.replicates=3",
    "probe.points=2",
    "throughput.rounds=0",
)


def wait_for(what, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


@pytest.fixture
def folder(here):
    """A working folder with 60 pictures in colour, a red disc each, and the two plugins."""
    (here / "pictures").mkdir()
    grid = np.arange(8)
    rng = np.random.default_rng(0)
    for number in range(60):
        row, column = rng.uniform(2, 6, size=2)
        disc = (grid[:, None] - row) ** 2 + (grid - column) ** 2 < 5
        pixels = np.stack([np.where(disc, 230, 20), np.full((8, 8), 40), np.where(disc, 10, 90)], -1)
        Image.fromarray(pixels.astype(np.uint8)).save(here / "pictures" / f"{number:02d}.png")
    (here / "model.py").write_text(MODEL, encoding="utf-8")
    (here / "rest.py").write_text(REST, encoding="utf-8")
    return here


@pytest.fixture
def command(folder, environment):
    """Start a command as a user would, in a process of its own."""

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "estbench", *map(str, arguments)],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def done(command):
    def run(*arguments):
        process = command(*arguments)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err

    return run


def run_arguments(out, *extra):
    chosen = ("--plugin", "model.py", "--plugin", "rest.py", "--problem", problem(), "-e", "mirror", "-e", "rloo")
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return ("run", *chosen, "--metric", "redness", "--steps", STEPS, "--out", out, *settings, "--threads", 1, *extra)


def problem():
    (value,) = [
        node.value for node in ast.parse(MODEL).body if isinstance(node, ast.Assign) and node.targets[0].id == "PROBLEM"
    ]
    return ast.literal_eval(value)


def bits_of(path):
    """Return all numbers of a folder that do not depend on the clock, by estimator."""
    results = load(path)
    curves = results.curves.drop(columns="seconds")
    return [
        table.sort_values([*table.columns], kind="stable").to_json(orient="split", index=False, double_precision=15)
        for table in (curves, results.gradients)
    ]


def test_model_and_data_are_under_forty_lines():
    assert len(textwrap.dedent(MODEL).strip().splitlines()) < 40


@pytest.mark.slow
def test_data_and_model_are_checked(done):
    code, out, err = done("data", "check", "pictures")
    assert (code, err) == (0, "")
    assert "shape: 3 x 8 x 8" in out
    code, out, err = done("check", "--plugin", "model.py", "--problem", problem())
    assert (code, err) == (0, ""), out
    (probed,) = [line for line in out.splitlines() if line.startswith("probe ")]
    assert "by the loop, because group 'encoder' has a layer of another kind: BatchNorm2d" in probed


@pytest.mark.slow
def test_the_estimator_is_checked(done):
    code, out, err = done("check", "--plugin", "rest.py", "mirror")
    assert (code, err) == (0, ""), out


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_is_interrupted_goes_on_and_is_reported(folder, command, done):
    pytest.importorskip("distributed")
    process = command(*run_arguments("r", "--jobs", 2))
    try:
        wait_for(lambda: [*folder.glob("r/cells/.*.partial")])
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1].startswith("Error: interrupted; finished runs are saved, run again")
    stopped = load(folder / "r").cells
    assert "interrupted" in set(stopped["status"]), stopped
    assert (stopped["step"] < STEPS).any()

    code, _, err = done(*run_arguments("r", "--jobs", 2))
    assert (code, err) == (0, "")
    finished = load(folder / "r").cells
    assert finished["status"].tolist() == ["done", "done"]
    assert set(finished["step"]) == {STEPS}
    code, _, err = done(*run_arguments("whole"))
    assert (code, err) == (0, "")
    assert bits_of(folder / "r") == bits_of(folder / "whole")

    for path in folder.glob("r/cells/*/cell.json"):
        (remark,) = json.loads(path.read_text(encoding="utf-8"))["remarks"]
        assert "takes one backward call per replicate: " in remark["message"]
        assert "BatchNorm2d" in remark["message"]
    code, _, err = done("report", "r", "--plugin", "model.py", "--plugin", "rest.py", "--format", "html,csv,png")
    assert (code, err) == (0, "")
    page = (folder / "r" / "report" / "report.html").read_text(encoding="utf-8")
    metrics = page.partition('<section id="metrics">')[2].partition("</section>")[0]
    assert "red of reconstructions" in metrics
    assert "<h3>My figure of seeds</h3>" in metrics
    assert "Missing here" not in page
    assert "BatchNorm2d" in page
    (pictures,) = folder.glob("r/report/figures/pictures*.png")
    drawn = np.asarray(Image.open(pictures).convert("RGB")).astype(int)
    assert ((drawn[..., 0] - drawn[..., 2]) > 150).any(), "the discs are red"
