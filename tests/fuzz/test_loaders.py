"""What comes from others is data: whatever is in a file, its loader reads it or says in one line why it cannot.

Each loader gets at least 2,000 cases, each made from a seed, which a failure names. None may raise anything but
``EstbenchError``, run code, or write or remove a file.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import random
import time
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mutations import changed_bytes, changed_json, changed_table, changed_text, changed_toml
from records import write_results
from scipy.io import savemat

from estbench import EstbenchError
from estbench.certify.record import find_certificates
from estbench.datasets import idx, matlab
from estbench.execution import plan_of
from estbench.execution.slurm import read_slurm
from estbench.experiment import SCHEMA_VERSION, read_experiment
from estbench.experiment.spec import experiment_from
from estbench.reproduce.card import read_card, shipped_cards
from estbench.store import ResultsFolder, load
from estbench.store.leftovers import leftovers
from estbench.store.pack import certificates_of, pack
from estbench.store.tables import CURVES, GRADIENTS, THROUGHPUT, is_cut_short, read_arrow
from estbench.store.verify import inspect

pytestmark = pytest.mark.fuzz

CASES = int(os.environ.get("ESTBENCH_FUZZ_CASES", "2000"))
MOST_SECONDS = 5.0  # of processor time
MODEL_BYTES = 10_000
TINY = """
name = "tiny"
question = "Which?"
estimators = ["reparam", "reinforce[num_samples=2]"]
problems = ["vae[dataset=digits,hidden=[8],latent_size=2]"]
seeds = [0]
target = -100.0
[training]
steps = 30
learning_rate = 1e-3
[evaluation]
every = 10
[probe]
replicates = 5
[throughput]
reference = "reparam"
[sweep]
batch_size = [8, 16]
"""
SLURM = """
jobs = 4
threads = 2
memory = "4GB"
walltime = "01:00:00"
queue = "short"
account = "mine"
directives = ["--gres=gpu:1"]
prologue = ["module load cuda"]
interface = "lo"
protocol = "tcp"
"""


def folder(place):
    """A results folder of two cells."""
    return write_results(
        place / "r", ("reparam", "stl"), 1, rounds=1, replicates=5, training={"steps": 2}, evaluation={"every": 1}
    )


def looked(path, results):
    load(results).cells  # noqa: B018
    leftovers(ResultsFolder(results))


def planned(path):
    plan = plan_of(read_experiment(path))
    for cell in plan.cells[:3]:
        assert Path(cell.folder).name == cell.folder
        assert not cell.folder.startswith(".")


def table(schema):
    def read(path):
        assert is_cut_short(path) in {True, False}
        read_arrow(path, schema).to_pandas()

    return read


def checkpoint_of(place):
    import torch

    from estbench.training.state import State

    State(plan_of(experiment_from(tomllib.loads(TINY))).cells[0], torch.device("cpu")).save(
        place / "checkpoint.pt", {"training": 1.0}
    )
    return place / "checkpoint.pt"


def resumed(path):
    from estbench.training.state import read_checkpoint

    content = read_checkpoint(path, MODEL_BYTES)
    assert content is None or isinstance(content, dict)


def certified(path):
    assert all(each.label == "mine" for each in find_certificates("mine", path.parent))


def written(name, content):
    def make(place):
        (place / name).write_bytes(content() if callable(content) else content)
        return place / name

    return make


def in_folder(pattern):
    return lambda place: min(folder(place).rglob(pattern))


def images():
    return gzip.compress(b"\0\0\x08\x03" + bytes([0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 784), mtime=0)


def unpacked_images(rng, content):
    """Damage below the compression, which a mutation of the packed bytes would never get past."""
    return gzip.compress(changed_bytes(rng, gzip.decompress(content)), 1, mtime=0)


def matrix(**options):
    file = io.BytesIO()
    savemat(file, {"X": np.ones((3, 784), np.uint8), "Y": np.array([["a"]], object)}, **options)
    return file.getvalue()


def matrix_4():
    file = io.BytesIO()
    savemat(file, {"X": np.ones((3, 784))}, format="4")
    return file.getvalue()


def certificate():
    check = {"name": "mean", "outcome": "passed", "evidence": "n = 5", "numbers": {"z": 1.0}}
    return json.dumps(
        {"schema": SCHEMA_VERSION, "label": "mine", "fingerprint": "0" * 64, "outcome": "passed", "checks": [check]}
    ).encode()


def parse_images(path):
    idx.parse_idx(path.read_bytes(), path.name)


def parse_matrix(path):
    matlab._array(path.read_bytes(), "X", path.name)


def archive(place):
    return pack([folder(place)], place / "r.zip").path


def verified(path):
    results = load(path)
    results.cells, results.curves, results.gradients, results.throughput  # noqa: B018
    inspect(results, certificates_of(results))


def changed_member(rng, content):
    """An archive of which one member is changed, with the digests that it then has."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    name = rng.choice(sorted(members))
    changes = [changed_bytes, changed_table if name.endswith("parquet") else changed_json]
    members[name] = rng.choice(changes)(rng, members[name])
    if name != "manifest.json":
        manifest = json.loads(members["manifest.json"])
        manifest["files"][name] = hashlib.sha256(members[name]).hexdigest()
        members["manifest.json"] = json.dumps(manifest).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as new:
        for each, changed in members.items():
            new.writestr(zipfile.ZipInfo(each), changed)
    return file.getvalue()


# By its name: how a valid file is made, how it is read, and how it is changed.
LOADERS = {
    "plan": (in_folder("experiment.json"), lambda path: looked(path, path.parent), (changed_json, changed_bytes)),
    "record": (in_folder("cell.json"), lambda path: looked(path, path.parents[2]), (changed_json, changed_bytes)),
    "curves": (in_folder("curves.parquet"), table(CURVES), (changed_table, changed_bytes)),
    "gradients": (in_folder("gradients.parquet"), table(GRADIENTS), (changed_table, changed_bytes)),
    "throughput": (in_folder("throughput.parquet"), table(THROUGHPUT), (changed_table, changed_bytes)),
    "archive": (archive, verified, (changed_member, changed_member, changed_bytes)),
    "checkpoint": (checkpoint_of, resumed, (changed_bytes,)),
    "experiment": (written("tiny.toml", TINY.encode()), planned, (changed_toml, changed_bytes, changed_text)),
    "slurm": (written("slurm.toml", SLURM.encode()), read_slurm, (changed_toml, changed_bytes, changed_text)),
    "card": (
        written("card.toml", lambda: min(shipped_cards().values()).read_bytes()),
        read_card,
        (changed_toml, changed_bytes, changed_text),
    ),
    "certificate": (written("mine.json", certificate), certified, (changed_json, changed_bytes)),
    "idx": (written("images.gz", images), parse_images, (unpacked_images, changed_bytes)),
    "matlab": (written("a.mat", lambda: matrix(do_compression=True)), parse_matrix, (changed_bytes,)),
    "matlab-plain": (written("b.mat", matrix), parse_matrix, (changed_bytes,)),
    "matlab-4": (
        written("c.mat", matrix_4),
        parse_matrix,
        (changed_bytes,),
    ),
    "variant": (
        written("variant.txt", b"reinforce[baseline=ema,num_samples=4]"),
        lambda path: plan_of(experiment_from({"estimators": [path.read_bytes().decode(errors="replace")]})),
        (changed_text,),
    ),
}


def tree(path):
    return {str(file.relative_to(path)): file.stat().st_size for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(900)
def test_loaders(tmp_path, monkeypatch, name):
    make, read, changes = LOADERS[name]
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path)
    whole = path.read_bytes()
    read(path)
    for case in range(CASES):
        seed = f"{name} {case}"
        rng = random.Random(seed)
        path.write_bytes(rng.choice(changes)(rng, whole))
        before, began = tree(tmp_path), time.process_time()
        try:
            read(path)
        except EstbenchError as error:
            assert str(error), seed  # noqa: PT017  (it need not fail)
            assert len(str(error)) < 10_000, seed  # noqa: PT017
        except Exception as error:
            raise AssertionError(f"case '{seed}' raised {type(error).__name__}: {error}") from error
        assert time.process_time() - began < MOST_SECONDS, seed
        assert tree(tmp_path) == before, seed


class Bomb:
    """A pickle that says that it was here."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_checkpoint_runs_no_code(tmp_path, protocol):
    from estbench.training.state import read_checkpoint

    path, marker = checkpoint_of(tmp_path), tmp_path / "was-here"
    whole = path.read_bytes()
    assert read_checkpoint(path, MODEL_BYTES)["step"] == 0
    bomb = pickle.dumps(Bomb(marker), protocol)
    path.write_bytes(bomb)
    assert read_checkpoint(path, MODEL_BYTES) is None
    rewritten = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(rewritten, "w") as new:
        for entry in old.infolist():
            new.writestr(entry, bomb if entry.filename.endswith("data.pkl") else old.read(entry))
    path.write_bytes(rewritten.getvalue())
    assert read_checkpoint(path, MODEL_BYTES) is None
    assert not marker.exists()
