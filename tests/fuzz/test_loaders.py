"""What comes from others is data: whatever is in it, a loader reads it or says in one line why it cannot.

Each loader gets at least 2,000 cases, the same ones every time. None may raise anything but ``EstbenchError``, run
code, or write or remove a file.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from estbench import EstbenchError
from estbench.execution import plan_of
from estbench.experiment import read_experiment
from estbench.experiment.spec import experiment_from
from estbench.store import ResultsFolder, load
from estbench.store.leftovers import leftovers
from estbench.store.tables import CURVES, GRADIENTS, THROUGHPUT, cut_short, read_arrow

pytestmark = pytest.mark.fuzz

SCHEMA1 = Path(__file__).parents[1] / "store" / "schema1"
MANY = settings(
    max_examples=2000,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = st.sampled_from(
    [
        *["../../x", "/etc/passwd", "..", ".", "reparam", "vae[latent_size=2]", "<script>", "é", "NaN"],
        "",
        "a\0b",
        "x" * 5000,
    ]
)
JSON = st.recursive(
    SCALARS | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def paths_in(data, at=()):
    """The way to every part of plain data."""
    yield at
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from paths_in(value, (*at, key))


def replaced(data, path, value):
    """The data with one part replaced; removed, where the value is ``...``."""
    if not path:
        return value
    key, *rest = path
    copy = dict(data) if isinstance(data, dict) else list(data)
    if rest or value is not ...:
        copy[key] = replaced(copy[key], rest, value)
    else:
        del copy[key]
    return copy


@st.composite
def mutated_json(draw, data):
    """Valid data with one to three of its parts changed or taken away."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in paths_in(data) if path] or [()]))
        data = replaced(data, path, draw(JSON | (st.just(...) if path else st.nothing())))
        if not isinstance(data, (dict, list)):
            break
    return json.dumps(data)


@st.composite
def mutated_bytes(draw, content):
    """Bytes of which some are cut off, changed or put in."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "remove"])):
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                content = content[:at]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del content[at : at + draw(st.integers(1, 64))]
    return bytes(content)


def tree(path):
    return {str(file.relative_to(path)): file.stat().st_size for file in path.rglob("*") if file.is_file()}


def tried(use):
    """Do it; the only way in which it may fail is a line for the user."""
    try:
        use()
    except EstbenchError as error:
        assert str(error)  # noqa: PT017  (it need not fail)


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """A folder with a results folder in it, of today's schema, whose every file is known."""
    root = tmp_path_factory.mktemp("fuzz")
    path = Path(shutil.copytree(SCHEMA1, root / "r"))
    folder = ResultsFolder(path)
    folder.record_plan(plan_of(experiment_from(folder.read_plan()["experiment"])))
    return path


def looked(arena, path, content):
    """Read the results folder while one of its files has another content; nothing else may change."""
    whole = path.read_bytes()
    try:
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        before = tree(arena.parent)
        tried(lambda: load(arena).cells)
        tried(lambda: leftovers(ResultsFolder(arena)))
        assert tree(arena.parent) == before
    finally:
        path.write_bytes(whole)


def file_of(arena, name):
    (found, *_) = sorted(arena.rglob(name))
    return found


@MANY
@given(data=st.data())
@pytest.mark.parametrize("name", ["experiment.json", "cell.json"])
def test_json(arena, name, data):
    path = file_of(arena, name)
    valid = json.loads(path.read_bytes())
    looked(arena, path, data.draw(mutated_json(valid) | JSON.map(json.dumps)))


@MANY
@given(data=st.data())
def test_json_of_an_older_schema(tmp_path_factory, data):
    root = tmp_path_factory.getbasetemp() / "older"
    if not root.exists():
        shutil.copytree(SCHEMA1, root / "r")
    path = root / "r" / "experiment.json"
    looked(root / "r", path, data.draw(mutated_json(json.loads(path.read_bytes()))))


@MANY
@given(data=st.data())
@pytest.mark.parametrize("name", ["experiment.json", "cell.json"])
def test_bytes_of_json(arena, name, data):
    path = file_of(arena, name)
    looked(arena, path, data.draw(mutated_bytes(path.read_bytes())))


@MANY
@given(data=st.data())
@pytest.mark.parametrize(("name", "schema"), [("curves", CURVES), ("gradients", GRADIENTS), ("throughput", THROUGHPUT)])
def test_parquet(arena, tmp_path_factory, name, schema, data):
    whole = file_of(arena, f"{name}.parquet").read_bytes()
    path = tmp_path_factory.getbasetemp() / f"{name}.parquet"
    path.write_bytes(data.draw(mutated_bytes(whole)))
    tried(lambda: read_arrow(path, schema).to_pandas())
    assert cut_short(path) in {True, False}


TINY = """
name = "tiny"
estimators = ["reparam", "reinforce[num_samples=2]"]
problems = ["vae[dataset=digits,hidden=[8],latent_size=2]"]
seeds = [0]
[training]
steps = 30
learning_rate = 1e-3
[sweep]
batch_size = [8, 16]
"""


def planned(path):
    plan = plan_of(read_experiment(path))
    for cell in plan.cells[:3]:
        assert Path(cell.folder).name == cell.folder
        assert not cell.folder.startswith(".")


TOML_VALUES = st.sampled_from(
    [
        *["1", "-1", "nan", "inf", "1e999", "''", "'../../x'", "[]", "[[1]]", "{a=1}", "true", "1979-05-27"],
        "9" * 5000,
        "[" * 2000,
    ]
) | NAMES.map(lambda name: json.dumps(name, ensure_ascii=False))
TOML_KEYS = st.sampled_from(
    [
        "name",
        "seeds",
        "estimators",
        "problems",
        "training.steps",
        "training",
        "sweep.learning_rate",
        "sweep.x",
        "target",
        "probe.replicates",
        "throughput.reference",
        "evaluation",
        "a.b.c",
        "'é'",
        "__class__",
    ]
)


@MANY
@given(lines=st.lists(st.tuples(TOML_KEYS, TOML_VALUES), min_size=1, max_size=4))
def test_toml(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in lines), encoding="utf-8")
    tried(lambda: planned(path))


@MANY
@given(content=mutated_bytes(TINY.encode()))
def test_bytes_of_toml(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)
    tried(lambda: planned(path))


@MANY
@given(
    text=st.text(max_size=40) | st.lists(st.sampled_from("rloo[num_samples=2],'\"\\ {}\n\0é"), max_size=30).map("".join)
)
def test_variants(text):
    tried(lambda: plan_of(experiment_from({"estimators": [text]})))


MODEL_BYTES = 10_000


class Bomb:
    """A pickle that says that it was here."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The state of a tiny cell, its checkpoint, and where a checkpoint is looked for."""
    import torch

    from estbench.training.state import State

    plan = plan_of(experiment_from(tomllib.loads(TINY)))
    state = State(plan.cells[0], torch.device("cpu"))
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    state.save(path, {"training": 1.0})
    return state, path, path.read_bytes()


@MANY
@given(data=st.data())
def test_checkpoints(interrupted, data):
    """Whatever is in it: the cell goes on from it or starts anew, and nothing is run."""
    from estbench.training.state import read_checkpoint

    _, path, whole = interrupted
    path.write_bytes(data.draw(mutated_bytes(whole)))
    content = read_checkpoint(path, MODEL_BYTES)
    assert content is None or isinstance(content, dict)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_checkpoint_that_inflates_is_none(interrupted):
    """A megabyte that would become a gigabyte is not unpacked."""
    from estbench.training.state import read_checkpoint

    _, path, whole = interrupted
    path.write_bytes(whole)
    assert read_checkpoint(path, MODEL_BYTES)["step"] == 0
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        new.writestr("archive/data/99", bytes(2**20))
    path.write_bytes(packed.getvalue())
    assert read_checkpoint(path, MODEL_BYTES) is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_checkpoint_runs_no_code(interrupted, protocol):
    from estbench.training.state import read_checkpoint

    _, path, whole = interrupted
    marker = path.with_name("was-here")
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
