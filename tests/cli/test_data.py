"""estbench data: what there is, what is missing, what is damaged."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from estbench import datasets
from estbench.report.analysis import Analysis
from estbench.report.figures import FigureSource
from estbench.report.figures.pictures import draw_pictures
from estbench.report.figures.style import line_styles
from estbench.store import load

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


# Files of the user


def coloured(count):
    """Images of 8x12 pixels: red in the top left, green in the top right, blue below, now and then darker."""
    images = np.zeros((count, 8, 12, 3), np.uint8)
    images[:, :4, :6, 0] = images[:, :4, 6:, 1] = images[:, 4:, :, 2] = 255
    images[1::2] //= 2
    return images


def test_check_of_a_file(estbench, here):
    np.savez(here / "faces.npz", images=coloured(50), labels=np.arange(50))
    code, said, errors = estbench("data", "check", "faces.npz")
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    for line in (
        "found: images: 50 x 8 x 12 x 3, uint8",
        "left out: array labels",
        "note: the channels stand last and are moved to the front",
        "range: 0 to 255",
        "conversion: divided by 255",
        "images: 40 train, 5 validation, 5 test",
        "shape: 3 x 8 x 12",
        "memory (MB): 0.058",
        "next: estbench run --problem 'vae[dataset=file:faces.npz]' -e reparam",
    ):
        assert line in lines
    assert "fixed pseudo-random order" in said
    assert "binarisation: dynamic" in said
    facts = json.loads(estbench("data", "check", "file:faces.npz", "--json").out)
    assert facts["card"] == datasets.data_id("file:faces.npz")
    assert facts["images"] == {"train": 40, "validation": 5, "test": 5}
    assert facts["range"] == [0.0, 255.0]


def test_the_next_command_can_be_pasted(estbench, here):
    (here / "it's mine").mkdir()
    np.save(here / "it's mine" / "a [1].npy", coloured(10))
    facts = json.loads(estbench("data", "check", "it's mine/a [1].npy", "--json").out)
    code, _, errors = estbench(*shlex.split(facts["next"])[1:], "--dry-run")
    assert (code, errors) == (0, "")


def test_check_of_a_registered_dataset(estbench):
    code, said, errors = estbench("data", "check", "digits")
    assert (code, errors) == (0, "")
    assert "images: 1,397 train, 200 validation, 200 test" in said
    assert "card: digits-v1-dynamic-shuffled" in said


@pytest.mark.parametrize("name", ["faces.npy", "file:none/faces.npy", "nothing", "notes.txt", "file:notes.txt"])
def test_check_of_what_cannot_be_used(refused, here, name):
    (here / "notes.txt").write_text("text")
    (here / "faces.npz").write_bytes(b"PK")
    errors = refused("data", "check", name)
    assert "dataset" in errors
    assert ("faces.npz" in errors) == (name == "faces.npy")


def test_a_file_is_refused_before_anything_is_written(refused, here):
    np.save(here / "a.npy", np.full((9, 4, 4), np.nan))
    errors = refused("run", "--problem", "vae[dataset=file:a.npy]", "-e", "reparam", "--out", "r")
    assert "dataset 'file:a.npy': it has 144 NaN" in errors


def test_show_of_a_file(estbench, here):
    np.save(here / "a.npy", coloured(10))
    code, said, _ = estbench("show", "file:a.npy")
    assert code == 0
    assert "8 / 1 / 1 images of 3 x 8 x 12" in said


@pytest.mark.slow
@pytest.mark.usefixtures("quick_report")
def test_a_run_on_a_coloured_folder_with_workers(estbench, here):
    """Workers may have another current folder; what they leave says what the user wrote, and is drawn in colour."""
    pytest.importorskip("distributed")
    for at, image in enumerate(coloured(40)):
        (here / "faces").mkdir(exist_ok=True)
        Image.fromarray(image).save(here / "faces" / f"{at}.png")
    label = "vae[dataset=file:faces,hidden=[8],latent_size=2,likelihood=gaussian]"
    settings = ("evaluation.points=1", "evaluation.examples=4", "probe.replicates=0", "throughput.rounds=0")
    run = ("run", "--problem", label, "-e", "reparam", "--steps", 5, "--out", "r")
    run = (*run, *(part for setting in settings for part in ("--set", setting)))
    code, _, errors = estbench(*run, "--jobs", 2)
    assert code == 0, errors
    (record,) = [path.read_text("utf-8") for path in here.glob("r/cells/*/cell.json")]
    assert '"dataset": "file:faces"' in record
    assert datasets.data_id("file:faces", "continuous") in record
    assert str(here) not in record
    results = load("r")
    originals = results.pictures[results.pictures["kind"] == "original"].sort_values("number")
    assert set(originals["shape"]) == {"3x8x12"}
    given = {image.transpose(2, 0, 1).tobytes() for image in coloured(40)}
    assert {*originals["pixels"]} <= given
    figure = next(draw_pictures(FigureSource(Analysis(results), line_styles(["reparam"]), results.cells["problem"][0])))
    (here / "figure.png").write_bytes(figure.files(["png"])["png"])
    drawn = np.asarray(Image.open(here / "figure.png").convert("RGB"))
    drawn = drawn[: len(drawn) * 3 // 5]  # the row of test images; below are those of the model
    red, green, blue = (
        np.argwhere((drawn == [[255 * (at == channel) for at in range(3)]]).all(-1)).min(0) for channel in range(3)
    )
    assert red[0] == green[0] < blue[0]
    assert red[1] == blue[1] < green[1]

    assert estbench(*run).out.count("1 already done") == 1
    Image.fromarray(coloured(1)[0][::-1]).save(here / "faces" / "0.png")
    assert datasets.data_id("file:faces", "continuous") not in record
