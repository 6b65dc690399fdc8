"""A checkpoint may come from a stranger: what it claims is looked at before it is believed."""

from __future__ import annotations

import io
import pickle
import struct
import tomllib
import zipfile

import pytest
import torch
from conftest import TINY

from estbench.execution import plan_of
from estbench.experiment.spec import experiment_from
from estbench.training import take_steps
from estbench.training.state import State, read_checkpoint


@pytest.fixture(scope="module")
def trained():
    state = State(plan_of(experiment_from(tomllib.loads(TINY))).cells[0], torch.device("cpu"))
    take_steps(state, 2)
    return state


@pytest.fixture
def fresh():
    return State(plan_of(experiment_from(tomllib.loads(TINY))).cells[0], torch.device("cpu"))


def moments(content):
    return content["optimizers"][0]["state"]


def stride_of_zero(content):
    moments(content)[0]["exp_avg"] = torch.zeros(1).expand(5 * 10**8)


def stride_of_zero_in_the_right_shape(content):
    moments(content)[0]["exp_avg"] = torch.zeros(1).expand(10**5, 5 * 10**3)


def overlapping(content):
    base = torch.zeros(2000)
    moments(content)[0]["exp_avg"] = base.as_strided((1000, 1000, 1000), (1, 1, 0))


def many_views_of_one(content):
    base = torch.zeros(10**5)
    content["curves"] = [{"x": base.view(-1)} for _ in range(3000)]


def weights_of_another_shape(content):
    content["problem"] = {name: value.repeat(2) for name, value in content["problem"].items() if value.dim() == 1}


def moments_of_another_shape(content):
    moments(content)[0]["exp_avg"] = torch.zeros(7)


def no_moments_at_all(content):
    content["optimizers"] = []


def unknown_weights(content):
    content["problem"] = {**content["problem"], "more": torch.zeros(3)}


CLAIMS = [
    stride_of_zero,
    stride_of_zero_in_the_right_shape,
    overlapping,
    many_views_of_one,
    weights_of_another_shape,
    moments_of_another_shape,
    no_moments_at_all,
    unknown_weights,
]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_a_checkpoint_that_does_not_fit_is_none_and_changes_nothing(trained, fresh, tmp_path, claim):
    content = trained._content({})
    content = {**content, "optimizers": [{**each, "state": {**each["state"]}} for each in content["optimizers"]]}
    for state in content["optimizers"]:
        state["state"] = {at: {**values} for at, values in state["state"].items()}
    claim(content)
    torch.save(content, tmp_path / "c.pt")
    before = {name: value.clone() for name, value in fresh.problem.state_dict().items()}
    assert fresh.restore(tmp_path / "c.pt") is None
    assert fresh.step == 0
    assert all(value.equal(before[name]) for name, value in fresh.problem.state_dict().items())


def test_what_was_saved_fits(trained, fresh, tmp_path):
    trained.save(tmp_path / "c.pt", {"training": 1.0})
    assert fresh.restore(tmp_path / "c.pt") == {"training": 1.0}
    assert fresh.step == 2


class Made:
    """Something that a pickle makes by calling a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def with_pickle(whole, pickled):
    """The archive with another pickle in it."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(written, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, pickled if entry.filename.endswith("data.pkl") else old.read(entry))
    return written.getvalue()


BOMBS = {
    "bytearray": lambda: pickle.dumps(Made(bytearray, 10**12), 2),
    "range": lambda: pickle.dumps(Made(list, range(10**9)), 2),
    "long": lambda: b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "other tensors": lambda: pickle.dumps(Made(torch._utils._rebuild_meta_tensor_no_storage, 1, (1,), (1,)), 2),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_makes_nothing_but_tensors(trained, tmp_path, bomb):
    trained.save(tmp_path / "c.pt", {})
    (tmp_path / "c.pt").write_bytes(with_pickle((tmp_path / "c.pt").read_bytes(), BOMBS[bomb]()))
    assert read_checkpoint(tmp_path / "c.pt", 10**6) is None


def test_a_file_that_is_too_large_for_its_model_is_not_loaded(trained, tmp_path):
    trained.save(tmp_path / "c.pt", {})
    with (tmp_path / "c.pt").open("r+b") as file:
        file.truncate(2**30)  # takes no room on the disk
    assert read_checkpoint(tmp_path / "c.pt", 10**6) is None
