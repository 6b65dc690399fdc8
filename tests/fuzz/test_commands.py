"""Whatever is wrong with a results folder: a command reads it, or says in a line why not, and touches nothing else.

Every case is made from a seed, which a failure names: ``pytest -m fuzz -k status-17`` runs the hundred around it again.
"""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import shutil
import time
from pathlib import Path

import pytest
from records import write_results

from estbench import cli
from estbench.experiment import SCHEMA_VERSION

pytestmark = pytest.mark.fuzz

CASES = 2000
SLOW_CASES = 500  # of what computes on the numbers
SHARD = 100
MOST_SECONDS = 5.0  # of processor time
MOST_GROWTH = 300 * 1024  # kB of memory, over all cases of a shard
VALUES = [
    *(
        None,
        True,
        0,
        -1,
        10**30,
        2**63,
        1e308,
        -0.0,
        "",
        "x" * 3000,
        "a\x00b",
        "\x1b[2J",
        "\u202e",
        "../../x",
        "/etc/passwd",
    ),
    *([], {}, [[]], {"": {}}, ["x"] * 50, {"a": [1, {"b": None}]}, "\ud800", "<script>", "=1+1", "NaN", "2026-01-01"),
    *(float("nan"), float("inf"), -float("inf")),
]
# What is not written by json.dumps.
RAW = ["9" * 5000, "1e999", "[" * 3000, "-", "tru", '"\\ud800"', '"\\u0000"', "01", "{,}", "\ufeff1", "'x'"]


def paths_in(data, at=()):
    yield at
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from paths_in(value, (*at, key))


def changed_json(rng, text):
    """A document with some of its values, keys or entries changed."""
    data = json.loads(text)
    marks = {}
    for _ in range(rng.choice([1, 1, 2, 4])):
        paths = [path for path in paths_in(data) if path]
        if not paths:
            break
        *parents, last = rng.choice(paths)
        home = data
        for step in parents:
            home = home[step]
        match rng.choice(["value", "value", "raw", "remove", "rename", "twice", "other"]):
            case "value":
                home[last] = copy.deepcopy(rng.choice(VALUES))
            case "raw":
                marks[f"@{len(marks)}@"] = rng.choice(RAW)
                home[last] = f"@{len(marks) - 1}@"
            case "remove":
                del home[last]
            case "rename" if isinstance(home, dict):
                home[rng.choice(["", "x", "\ud800", "__class__", "schema", "cells", "é" * 300])] = home.pop(last)
            case "twice" if isinstance(home, list):
                home.append(copy.deepcopy(home[last]))
            case _:
                donor = data
                for step in rng.choice(paths):
                    donor = donor[step] if isinstance(donor, dict | list) and len(donor) else donor
                    if not isinstance(donor, dict | list):
                        break
                home[last] = copy.deepcopy(donor)
    text = json.dumps(data)
    for mark, raw in marks.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode("utf-8", "surrogatepass")


def changed_bytes(rng, content):
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 10])):
        at = rng.randrange(len(content) + 1)
        match rng.choice(["flip", "cut", "insert", "remove", "copy"]):
            case "flip" if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case "cut":
                del content[at:]
            case "insert":
                content[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
            case "remove":
                del content[at : at + rng.choice([1, 4, 100])]
            case "copy":
                content[at:at] = content[at : at + 200]
    return bytes(content)


def changed_entry(rng, path, victim):
    """Something else in a file's or folder's place."""
    whole_folder = path.is_dir()
    (shutil.rmtree if whole_folder else os.unlink)(path)
    match rng.choice(["link", "dangling", "pipe", "folder", "empty", "gone", "device", "twin"]):
        case "link":
            path.symlink_to(victim if not whole_folder else victim.parent)
        case "dangling":
            path.symlink_to(victim.parent / "nowhere")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            (path / "inner").mkdir(parents=True)
        case "empty":
            path.write_bytes(b"")
        case "device":
            path.symlink_to("/dev/zero")
        case "twin":
            os.link(victim, path)


def snapshot(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A results folder with leftovers of killed runs, and a file of the user's beside it."""
    root = tmp_path_factory.mktemp("fuzz")
    path = write_results(root / "base", estimators=("reparam", "stl"), seeds=2, rounds=2, replicates=5)
    finished = sorted((path / "cells").iterdir())
    shutil.copytree(finished[0], path / "cells" / f".{finished[0].name}.partial")
    (path / "cells" / f".{finished[1].name}.attempts").write_text("no checkpoint\n")
    (path / f".x.{'0' * 16}.tmp").write_text("half")
    (path / "report" / "tables").mkdir(parents=True)
    (path / "report" / "tables" / "old.csv").write_text("old")
    for each in [path, *path.rglob("*")]:
        os.utime(each, (1, 1))
    return path


@pytest.fixture
def place(base, tmp_path, monkeypatch):
    """Where cases are run: a working folder, and the user's own files, which nothing may change."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "victim.json").write_text(json.dumps({"schema": SCHEMA_VERSION, "secret": 4711}))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def damaged(rng, base, place):
    """A copy of the folder with one to three faults."""
    path = place / "work" / "r"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(base, path)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        entries = sorted(each for each in path.rglob("*") if not each.is_symlink())
        files = [each for each in entries if each.is_file()]
        if not files:
            break
        file = rng.choice(files)
        match rng.choice(["json", "json", "json", "bytes", "bytes", "entry", "swap"]):
            case "json":
                file = rng.choice([each for each in files if each.suffix == ".json"] or files)
                try:
                    file.write_bytes(changed_json(rng, file.read_bytes()))
                except (ValueError, KeyError, IndexError, TypeError, RecursionError):
                    file.write_bytes(changed_bytes(rng, file.read_bytes()))
            case "bytes":
                file.write_bytes(changed_bytes(rng, file.read_bytes()))
            case "entry":
                changed_entry(rng, rng.choice(entries), place / "own" / "victim.json")
            case "swap":
                file.write_bytes(rng.choice(files).read_bytes())
    return path


def loaded(path):
    from estbench import EstbenchError
    from estbench.store import load

    try:
        results = load(path)
        assert [len(frame) >= 0 for frame in (results.cells, results.curves, results.gradients, results.throughput)]
    except EstbenchError as error:
        assert str(error)  # noqa: PT017
        return 2
    return 0


def tabulated(path):
    from estbench import EstbenchError
    from estbench.report.tables import all_tables
    from estbench.store import load

    try:
        assert [table.to_csv() and table.to_markdown() and table.to_latex() for table in all_tables(load(path))]
    except EstbenchError as error:
        assert str(error)  # noqa: PT017
        return 2
    return 0


def command(*arguments):
    return lambda path: cli._exit_code([each.format(path) for each in arguments])


COMMANDS = {
    "load": (loaded, CASES),
    "tables": (tabulated, SLOW_CASES),
    "status": (command("status", "{}"), CASES),
    "status-json": (command("status", "{}", "--json"), CASES),
    "compare": (command("compare", "{}", "reparam", "stl"), SLOW_CASES),
    "merge": (command("merge", "{}", "--out", "merged"), CASES),
    "clean": (command("clean", "{}", "--yes"), CASES),
    "probe": (command("probe", "--results", "{}", "-e", "reparam"), SHARD),
    "report": (command("report", "{}", "--format", "csv,md"), SHARD),
}


@pytest.mark.parametrize(
    ("name", "shard"), [(name, shard) for name, (_, cases) in COMMANDS.items() for shard in range(cases // SHARD)]
)
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(900)
def test_commands(base, place, capfd, name, shard):
    run = COMMANDS[name][0]
    mine = snapshot(place / "own")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(shard * SHARD, (shard + 1) * SHARD):
        seed = f"{name} {case}"
        path = damaged(random.Random(seed), base, place)
        shutil.rmtree("merged", ignore_errors=True)
        began = time.process_time()
        try:
            code = run(path)
        except Exception as error:
            raise AssertionError(f"case '{seed}' raised {type(error).__name__}: {error}") from error
        errors = capfd.readouterr().err
        assert code in {0, 1, 2}, (seed, errors[-500:])
        assert "Traceback" not in errors, (seed, errors[-1500:])
        assert time.process_time() - began < MOST_SECONDS, seed
        assert snapshot(place / "own") == mine, seed
        assert {each.name for each in Path().iterdir()} <= {"r", "merged"}, seed
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH
