"""A run that was stopped and goes on ends with the same bits as one that was not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from estbench.store import Status

ESTIMATORS = ["reparam", "reinforce[baseline=ema]", "reinforce[baseline=nvil]"]
FIRST_SAVE_AT_ONCE = {"checkpoint_seconds": 0.0}

# `estbench run`, saving a checkpoint at every occasion.
RUN = """
import sys
from estbench.cli import main
from estbench.training import run_cell
run_cell.__kwdefaults__["checkpoint_seconds"] = 0.0
main(sys.argv[1:])
"""


def wait_for(what, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("steps", [(1,), (10,), (17, 5)], ids=str)
def test_an_interrupted_run_ends_with_the_same_bits(train_cell, stop_at, estimator, steps):
    whole = train_cell(estimator, name="whole")
    reached = 0
    for step in steps:
        stopped = train_cell(estimator, options={"interrupted": stop_at(step)})
        assert stopped.outcome.status is Status.INTERRUPTED
        assert stopped.outcome.reason == f"stopped at step {stopped.record['step']}; run again to resume"
        assert (stopped.path / "checkpoint.pt").exists()
        assert reached < stopped.record["step"] < 30, "a resumed run goes on, and does not start again"
        reached = stopped.record["step"]
    seen = []
    finished = train_cell(estimator, options={"on_step": seen.append})
    assert finished.outcome.status is Status.DONE
    assert seen[0] > reached
    assert finished.bits == whole.bits
    assert finished.record["evaluations"] == whole.record["evaluations"]
    assert not (finished.path / "checkpoint.pt").exists()


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("estimator", ["disarm", "reinforce[baseline=nvil]", "relax"])
def test_both_layers_of_a_hierarchical_vae_go_on_too(train_cell, stop_at, estimator):
    problems = {"problems": ["hierarchical_vae[dataset=digits,latent_size=4,hidden=[6],prior=learned]"]}
    whole = train_cell(estimator, name="whole", **problems)
    stopped = train_cell(estimator, options={"interrupted": stop_at(10)}, **problems)
    assert stopped.outcome.status is Status.INTERRUPTED
    finished = train_cell(estimator, **problems)
    assert (finished.outcome.status, finished.bits) == (Status.DONE, whole.bits)
    assert finished.record["certificate"]["status"] == "passed"
    assert finished.record["evaluations"] == 30 * 16 * finished.record["facts"]["evaluations"]


def test_a_checkpoint_is_plain_data(train_cell):
    """Tensors and Python's own types, so that ``weights_only`` reads it: after a probe, too."""
    trained = train_cell(options={"keep_checkpoint": True})
    content = torch.load(trained.path / "checkpoint.pt", weights_only=True)
    assert content["step"] == 30
    assert len(content["gradients"]) == len(trained.gradients)


def test_the_seconds_of_a_resumed_run_go_on_too(train_cell, stop_at):
    stopped = train_cell(options={"interrupted": stop_at(20)})
    finished = train_cell()
    for clock in ("training", "evaluation", "probe"):
        assert finished.record["clocks"][clock] > stopped.record["clocks"][clock] > 0
    assert finished.curves["seconds"].is_monotonic_increasing


def test_an_interruption_at_the_last_step_is_no_interruption(train_cell):
    last = []
    trained = train_cell(
        options={"interrupted": lambda: bool(last), "on_step": lambda step: step == 30 and last.append(step)}
    )
    assert trained.outcome.status is Status.DONE


def test_saving_checkpoints_changes_nothing(train_cell):
    assert train_cell(name="saved", options=FIRST_SAVE_AT_ONCE).bits == train_cell(name="not saved").bits


def test_a_finished_cell_keeps_its_checkpoint_when_asked(train_cell):
    assert (train_cell(options={"keep_checkpoint": True}).path / "checkpoint.pt").stat().st_size > 1000


def damages(content: bytes) -> dict[str, bytes]:
    rng = random.Random(0)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    return {
        "empty": b"",
        "half": content[: len(content) // 2],
        "flipped": bytes(flipped),
        "noise": rng.randbytes(300),
        "short int": b"\x80\x02X",
        "no such memo": b"\x80\x02h\x05.",
        "no mark": b"\x80\x04\x95",
        "another pickle": b"\x80\x02}q\x00.",
    }


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("damage", damages(bytes(100)))
def test_a_damaged_checkpoint_means_a_new_start(train_cell, stop_at, damage):
    whole = train_cell(name="whole")
    stopped = train_cell(options={"interrupted": stop_at(15)})
    checkpoint = stopped.path / "checkpoint.pt"
    checkpoint.write_bytes(damages(checkpoint.read_bytes())[damage])
    finished = train_cell()
    assert finished.outcome.status is Status.DONE
    assert finished.bits == whole.bits


def change(content, *path, to):
    """Replace a part of a checkpoint by what a function makes of it."""
    *way, last = path
    for step in way:
        content = content[step]
    content[last] = to(content[last])


UNFIT = {
    "a weight of another shape": lambda c: change(c, "problem", next(iter(c["problem"])), to=lambda w: w[..., :1]),
    "a weight too few": lambda c: c["problem"].popitem(),
    "a moment of another shape": lambda c: change(
        c, "optimizers", 0, "state", 0, "exp_avg", to=lambda moment: moment[..., :1]
    ),
    "an optimiser too few": lambda c: c["optimizers"].pop(),
    "a part missing": lambda c: c.pop("batches"),
    "an order of other examples": lambda c: change(c, "batches", "order", to=lambda order: order + 1),
    "a position beyond the epoch": lambda c: change(c, "batches", "position", to=lambda at: at + 10**6),
    "no random state": lambda c: change(c, "noise", to=lambda state: state[:5]),
    "a step beyond the last": lambda c: change(c, "step", to=lambda step: step + 100),
    "a step that is none": lambda c: change(c, "step", to=lambda _: "many"),
    "curves that are none": lambda c: change(c, "curves", to=lambda _: 7),
}


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("unfit", UNFIT)
def test_a_checkpoint_that_does_not_fit_means_a_new_start_too(train_cell, stop_at, unfit):
    """It is whole and has the right key; what was taken over before the defect shows is given back."""
    estimator = "reinforce[baseline=nvil]"
    whole = train_cell(estimator, name="whole")
    stopped = train_cell(estimator, options={"interrupted": stop_at(15)})
    content = torch.load(stopped.path / "checkpoint.pt", weights_only=True)
    UNFIT[unfit](content)
    torch.save(content, stopped.path / "checkpoint.pt")
    remarks, seen = [], []
    finished = train_cell(estimator, options={"remark": remarks.append, "on_step": seen.append})
    assert ["checkpoint is damaged" in remark for remark in remarks] == [True]
    assert finished.outcome.status is Status.DONE
    assert seen[0] == 1
    assert finished.bits == whole.bits


def test_a_checkpoint_of_another_cell_is_ignored(train_cell, stop_at):
    whole = train_cell(name="whole")
    stopped = train_cell(options={"interrupted": stop_at(15)})
    other = train_cell(seeds=[1], options={"interrupted": stop_at(15)})
    (other.path / "checkpoint.pt").rename(stopped.path / "checkpoint.pt")
    finished = train_cell()
    assert finished.outcome.status is Status.DONE
    assert finished.bits == whole.bits


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["reinforce[baseline=nvil]", *ESTIMATORS[:2]])
def test_a_run_that_was_killed_ends_with_the_same_bits(train_cell, tiny_file, tmp_path, environment, estimator):
    changes = {"training.steps": 1000, "evaluation.every": 50}
    by_name = {key.replace(".", "__"): value for key, value in changes.items()}
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    arguments = ["run", str(tiny_file), "-e", estimator, "--out", str(tmp_path / "results"), *settings]
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments], env=environment, stdout=subprocess.DEVNULL)
    try:
        saved = wait_for(lambda: [*Path(tmp_path, "results").glob("cells/.*.partial/checkpoint.pt")])
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    reached = torch.load(saved[0], weights_only=True)["step"]
    seen = []
    finished = train_cell(estimator, options={"on_step": seen.append}, **by_name)
    assert seen[0] > reached > 0
    assert finished.bits == train_cell(estimator, name="whole", **by_name).bits


@pytest.mark.slow
def test_ctrl_c_stops_a_run_politely_and_the_same_command_goes_on(tiny_file, tmp_path, environment):
    out = tmp_path / "results"
    command = [sys.executable, "-m", "estbench", "run", str(tiny_file), "--steps", "3000", "--out", str(out)]
    command += ["--set", "evaluation.every=1000"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: [*out.glob("cells/.*.partial")])
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted reparam on vae, seed 0" in output
    assert errors.strip() == "Error: interrupted; finished runs are saved, run again (without --force) to resume"

    import estbench

    (stopped,) = estbench.load(out).cells.itertuples()
    assert stopped.status == "interrupted"
    assert 0 < stopped.step < 3000

    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert "1 run (estimator x seed): 0 already done, 1 to do" in again.stdout
    (finished,) = estbench.load(out).cells.itertuples()
    assert (finished.status, finished.step) == ("done", 3000)
    assert finished.training_seconds > stopped.training_seconds
