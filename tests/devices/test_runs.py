"""Whole runs on the device: records, resumption, devices that change in between, and what waits."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

import estbench
from estbench import devices
from estbench.certify.simulated_backend import BACKEND
from estbench.certify.simulated_device import CPU, DEVICE, SimulatedDevice
from estbench.randomness import seeded
from estbench.store import ResultsFolder, Status
from estbench.training import State, run_cell, take_steps
from estbench.training.state import fingerprint

MEASURED = {
    "probe": {
        "replicates": 5,
        "points": 2,
        "shared": "reparam",
        "tracking_steps": 2,
        "reference": "rloo[num_samples=4]",
        "reference_replicates": 6,
    },
    "throughput": {"rounds": 2, "steps": 2},
    "evaluation": {"every": 5, "num_samples": 2, "examples": 8},
    "training": {"steps": 10, "batch_size": 16},
}


def records(folder):
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("cells/*/cell.json"))]


def stop_after(steps):
    """An interruption that arrives once so many steps were taken."""
    asked = iter(range(1000))
    return lambda: next(asked) > steps


# Runs whose end alone matters: few steps, and little is measured.
SHORT = {"training__steps": 9, "evaluation__every": 9, "evaluation__examples": 8}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """One experiment on the device and on the CPU: bounds, probes at both places, throughput."""
    import tomllib

    from conftest import TINY

    folder = tmp_path_factory.mktemp("devices")
    experiment = tomllib.loads(TINY) | MEASURED | {"estimators": ["reparam", "reinforce[baseline=nvil]"]}
    with SimulatedDevice():
        there = estbench.run(experiment, out=folder / "there", device="simgpu")
    return there, estbench.run(experiment, out=folder / "here", device="cpu")


def test_a_run_on_the_device_measures_all_that_one_on_the_cpu_does(everything):
    there, here = everything
    assert set(there.cells["status"]) == {Status.DONE}
    for name in ("curves", "gradients"):
        frames = [getattr(each, name) for each in everything]
        columns = [column for column in frames[0].columns if frames[0][column].dtype == object]
        assert frames[0][columns].equals(frames[1][columns])
    assert [*there.throughput["estimator"]] == [*here.throughput["estimator"]]
    assert there.throughput["peak_memory_bytes"].gt(0).all()
    assert all(record["remarks"] == [] for record in records(there.path))


def test_initial_weights_are_the_same_bits_on_both(everything):
    initial = [{each["fingerprints"]["initial_weights"] for each in records(run.path)} for run in everything]
    assert initial[0] == initial[1]
    assert len(initial[0]) == 1


def test_the_record_says_which_device_it_was(everything):
    (environment,) = {json.dumps(record["environment"], sort_keys=True) for record in records(everything[0].path)}
    environment = json.loads(environment)
    assert environment["device"] == "simgpu"
    assert environment["device_name"] == environment["device_names"] == "simulated device"
    assert environment["deterministic"] is True
    assert not torch.are_deterministic_algorithms_enabled()
    assert set(everything[0].throughput["device"]) == {"simgpu"}


def test_a_run_with_a_probe_trains_to_the_same_bits_as_one_without(simulated, make_cell, tmp_path):
    ends = set()
    for name, changes in {"with": {"probe__shared": "reparam"}, "without": {"probe__replicates": 0}}.items():
        folder = ResultsFolder(tmp_path / name)
        folder.create()
        cell = make_cell("rloo", **{**SHORT, "evaluation__every": 3 if name == "with" else 9}, **changes)
        assert run_cell(cell, folder, DEVICE).status is Status.DONE
        ends |= {record["fingerprints"]["final_weights"] for record in records(tmp_path / name)}
    assert len(ends) == 1


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("estimator", ["reinforce[baseline=nvil]", "rloo"])
def test_a_run_that_is_stopped_and_resumed_ends_in_the_same_bits(simulated, make_cell, tmp_path, estimator):
    ends = []
    for name in ("whole", "stopped"):
        folder = ResultsFolder(tmp_path / name)
        folder.create()
        if name == "stopped":
            outcome = run_cell(make_cell(estimator, **SHORT), folder, DEVICE, interrupted=stop_after(4))
            assert outcome.status is Status.INTERRUPTED
        assert run_cell(make_cell(estimator, **SHORT), folder, DEVICE).status is Status.DONE
        ends += [record["fingerprints"]["final_weights"] for record in records(tmp_path / name)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(("first", "second"), [(DEVICE, CPU), (CPU, DEVICE)], ids=["to the CPU", "to the device"])
def test_a_checkpoint_of_another_device_is_not_resumed_and_the_reason_is_said(
    simulated, make_cell, tmp_path, first, second
):
    folder = ResultsFolder(tmp_path / "results")
    folder.create()
    lines = []
    run_cell(make_cell(**SHORT), folder, first, interrupted=stop_after(4))
    outcome = run_cell(make_cell(**SHORT), folder, second, remark=lines.append)
    assert outcome.status is Status.DONE
    (line,) = lines
    assert "made on another device" in line
    assert first.type in line
    assert second.type in line


def test_weights_and_learned_parts_go_from_device_to_cpu_and_back(simulated, make_cell, tmp_path):
    cell = make_cell("reinforce[baseline=nvil]")
    with seeded(7, DEVICE):
        state = State(cell, DEVICE)
        take_steps(state, 3)
        state.save(tmp_path / "c.pt", {})
    content = torch.load(tmp_path / "c.pt", weights_only=True)  # holds nothing of the device
    with seeded(7, CPU):
        here = State(cell, CPU)
    here.problem.load_state_dict(content["problem"])
    here.estimator.load_state_dict(content["estimator"])
    back = State(cell, DEVICE)
    back.problem.load_state_dict(here.problem.state_dict())
    back.estimator.load_state_dict(here.estimator.state_dict())
    assert fingerprint(state.problem) == fingerprint(here.problem) == fingerprint(back.problem)
    assert fingerprint(state.estimator) == fingerprint(back.estimator)


def test_a_neutral_run_of_one_device_is_not_taken_for_that_of_another(everything):
    folders = [{path.name for path in (run.path / "trajectories").iterdir()} for run in everything]
    assert folders[0] == {f"{name}-simgpu" for name in folders[1]}


def test_operations_that_do_not_repeat_their_bits_are_named_in_the_record(simulated, make_cell, tmp_path, monkeypatch):
    from estbench.problems.vae import VAE

    observe = VAE.observe

    def noisy(self, intensities, generator):
        warnings.warn("scatter_add does not have a deterministic implementation, but you set ...", stacklevel=1)
        return observe(self, intensities, generator)

    monkeypatch.setattr(VAE, "observe", noisy)
    warnings.simplefilter("default")  # as in a run; pytest makes them errors
    folder = ResultsFolder(tmp_path / "results")
    folder.create()
    assert run_cell(make_cell(**SHORT), folder, DEVICE).status is Status.DONE
    (record,) = records(tmp_path / "results")
    remarks = [row["message"] for row in record["remarks"]]
    assert remarks == ["the cell used scatter_add, which gives other bits each time on simgpu"]


def test_a_stride_of_steps_waits_once(simulated, make_cell):
    from estbench.training.divergence import Watch

    with seeded(7, DEVICE):
        state = State(make_cell(), DEVICE)
        watch = Watch(state, take_steps)
        watch.take_steps(1, lambda: False)
        simulated.waits.clear()
        watch.take_steps(20, lambda: False)
    assert sum(simulated.waits.values()) == 1


def test_the_devices_stream_is_left_as_it_was(simulated, make_cell, tmp_path):
    folder = ResultsFolder(tmp_path / "results")
    folder.create()
    before = torch.get_rng_state(), BACKEND.get_rng_state()
    run_cell(make_cell("rloo", **SHORT), folder, DEVICE)
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.equal(before[1], BACKEND.get_rng_state())


def test_no_settings_are_changed_for_a_cpu():
    with devices.deterministic(CPU):
        assert not torch.are_deterministic_algorithms_enabled()
