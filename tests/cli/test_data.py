"""estbench data: what there is, what is missing, what is damaged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from estbench import datasets

REAL = Path(os.environ.get("ESTBENCH_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data")


@pytest.fixture
def folder(here, monkeypatch):
    """An empty data folder, chosen by the variable."""
    path = here / "data"
    path.mkdir()
    return path


@pytest.fixture
def told(estbench, folder, monkeypatch):
    def run(*arguments):
        monkeypatch.setenv("ESTBENCH_DATA_DIR", str(folder))
        return estbench("data", *arguments)

    return run


@pytest.fixture
def forgotten():
    """What is loaded here is not there for the next test."""
    yield
    datasets.dataset._loaded.clear()


def plant_damaged(folder):
    path = folder / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(b"cut sho")
    return path


def test_list(told, folder):
    plant_damaged(folder)
    code, said, errors = told("list")
    assert (code, errors) == (0, "")
    lines = {line.split()[0]: line for line in said.splitlines()[3:-1]}
    assert set(lines) == {"mnist", "fashion_mnist", "static_mnist", "omniglot", "silhouettes", "mnist5k", "digits"}
    assert "1 damaged, 1 missing" in lines["mnist"]
    assert "static_mnist-v1-static-larochelle" in lines["static_mnist"]
    assert "none needed" in lines["mnist5k"]
    assert f"folder: {folder} (set ESTBENCH_DATA_DIR" in said
    answer = json.loads(told("list", "--json").out)
    assert answer["folder"] == str(folder)
    assert answer["datasets"][0]["files"]["mnist/train-images-idx3-ubyte.gz"] == "damaged"


def test_verify(told, folder):
    plant_damaged(folder)
    code, said, errors = told("verify", "mnist")
    assert (code, errors) == (1, "")
    assert "0 of 2 verified" in said
    assert "damaged" in said
    assert told("verify", "digits").code == 0


def test_fetch_offline_names_every_file_that_is_missing(told, folder):
    path = plant_damaged(folder)
    code, _, errors = told("fetch", "mnist", "--offline")
    assert code == 2
    assert "mnist/train-images-idx3-ubyte.gz is damaged; not downloading because of --offline" in errors
    assert "mnist/t10k-images-idx3-ubyte.gz is missing" in errors
    assert errors.count("\n") == 1
    assert path.read_bytes() == b"cut sho"


def test_an_unknown_dataset(told):
    for command in ("fetch", "verify"):
        code, _, errors = told(command, "mnis")
        assert code == 2
        assert "unknown dataset 'mnis'; did you mean 'mnist'?" in errors


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="no real files beside the repository: shared/data")
def test_the_real_files_verify_and_train(told, estbench, folder, here, tiny_file, forgotten):
    for name in ("mnist", "fashion_mnist", "binarized_mnist"):
        shutil.copytree(
            REAL / name, folder / name, copy_function=lambda source, target: Path(target).symlink_to(source)
        )
    names = ("mnist", "fashion_mnist", "static_mnist")
    code, said, _ = told("verify", *names)
    assert code == 0
    assert "7 of 7 verified" in said
    assert told("fetch", *names, "--offline").code == 0
    problems = [part for name in names for part in ("--problem", f"vae[dataset={name},hidden=[8],latent_size=2]")]
    code, _, errors = estbench("run", tiny_file, *problems, "--steps", 3, "--out", "r", "--set", "probe.replicates=0")
    assert (code, errors) == (0, errors)
    found = json.loads(estbench("status", "r", "--json").out)
    assert found["counts"] == {"done": 3}
