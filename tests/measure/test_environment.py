"""Provenance names versions and hardware, and neither the host nor the user."""

from __future__ import annotations

import getpass
import json
import platform

import pytest
import torch

from estbench.devices import accelerators, choose_device
from estbench.errors import EstbenchError
from estbench.measure import describe_environment, environment, memory
from estbench.measure.memory import PeakMemory
from estbench.randomness import seeded

CPU = torch.device("cpu")


def test_the_environment_is_flat_and_plain_and_complete():
    found = describe_environment(CPU)
    packages = {"estbench", "torch", "numpy", "scipy", "pandas", "pyarrow"}
    machine = {"python", "platform", "processor", "cores", "threads", "device", "device_name", "machine"}
    assert set(found) == packages | machine | {"commit", "uncommitted"}
    assert json.loads(json.dumps(found)) == found
    assert all(value is None or isinstance(value, (str, int, bool)) for value in found.values())
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"


def test_the_environment_names_neither_host_nor_user(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "a-telling-host-name")
    found = describe_environment(CPU)
    said = json.dumps(found)
    assert "a-telling-host-name" not in said
    assert getpass.getuser() not in [str(value) for value in found.values()]
    # The hash tells two machines apart all the same, and one machine is always itself.
    assert describe_environment(CPU)["machine"] == found["machine"]
    monkeypatch.setattr(platform, "node", lambda: "another-host")
    assert describe_environment(CPU)["machine"] != found["machine"]


def test_a_source_tree_without_git_has_no_commit(monkeypatch):
    environment._source.cache_clear()
    monkeypatch.setattr(environment, "__file__", "/nowhere/estbench/measure/environment.py")
    try:
        assert environment._source() == {"commit": None, "uncommitted": None}
    finally:
        environment._source.cache_clear()


@pytest.mark.parametrize(
    ("built_with", "reason"), [(None, "built without CUDA"), ("13.0", "finds no CUDA device")], ids=["cpu", "cuda"]
)
def test_asking_for_cuda_where_there_is_none_says_why_and_what_to_do(monkeypatch, built_with, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_with)
    with pytest.raises(EstbenchError, match=f"--device cuda: .*{reason}; use --device cpu or auto"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == CPU


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cpu") == CPU
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(EstbenchError, match="there are 2 CUDA devices, counted from 0"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cpu:x", "", "meta"])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(EstbenchError, match="--device"):
        choose_device(name)


@pytest.mark.parametrize("name", ["mps", "xpu"])
def test_a_device_that_this_machine_lacks_is_refused(name):
    if name not in accelerators():
        with pytest.raises(EstbenchError, match=f"torch finds no {name.upper()} device"):
            choose_device(name)


def test_lent_random_state_is_seeded_and_given_back_even_after_an_error():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    drawn = []

    def fail():
        drawn.append(torch.rand(3))
        raise KeyError

    with pytest.raises(KeyError), seeded(7, CPU):
        fail()
    first = drawn[0]
    assert torch.equal(state, torch.get_rng_state())
    with seeded(7, CPU):
        assert torch.equal(first, torch.rand(3))
    torch.manual_seed(7)
    assert torch.equal(first, torch.rand(3))


def test_peak_memory_is_the_high_water_mark_above_the_level_before(monkeypatch, tmp_path):
    (tmp_path / "clear_refs").write_text("")
    (tmp_path / "status").write_text("VmPeak:\t  999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  100 kB\n")
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    peak = PeakMemory(CPU)
    assert peak.bytes() is None  # never reset: the mark would be the whole process's past
    peak.reset()
    assert (tmp_path / "clear_refs").read_text() == "5"
    assert peak.bytes() == (2048 - 100) * 1024


def test_peak_memory_is_unknown_where_the_mark_cannot_be_reset(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "no" / "proc")
    peak = PeakMemory(CPU)
    peak.reset()
    assert peak.bytes() is None
