"""The written pages are true.

Their Python runs and prints what they show, their commands run, their numbers are those of the committed results, and
their links lead somewhere.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from importlib.metadata import version

import matplotlib as mpl
import numpy as np
import pytest
from conftest import TINY
from pages import (
    PAGES,
    ROOT,
    anchors_of,
    blocks,
    commands_of,
    links_of,
    outputs_of,
    parse,
    prose,
    python_of,
    text_of,
)

from estbench import estimators, limits
from estbench.cli import COMMANDS, _exit_code
from estbench.experiment import Experiment
from estbench.experiment.spec import experiment_from, shipped_experiments
from estbench.store import Status, tables
from estbench.store.results import CLOCKS, MISSING

pytestmark = pytest.mark.usefixtures("one_thread")

OWN_MODEL = "docs/howto/own_model.md"  # its commands run in test_own_model.py
# Commands that need a cluster, a GPU, a download, or minutes: they are only parsed.
ONLY_PARSED = {"--slurm", "--cluster", "--jobs", "cuda", "fetch", "verify", "--tier", "minutes", "stl_variances"}
SHORT = [
    "--steps=6",
    "--seeds=2",
    *(
        f"--set={setting}"
        for setting in (
            "evaluation.examples=8",
            "evaluation.num_samples=2",
            "evaluation.points=2",
            "probe.replicates=4",
            "probe.points=1",
            "throughput.rounds=0",
        )
    ),
]
# The files that the commands of a page need: the number of a block and its language, or a whole text.
MIRROR = blocks(text_of("README.md"), "python")[0]
FILES = {
    "README.md": {"mirror.py": MIRROR},
    "docs/measures/certificates.md": {"mirror.py": MIRROR},
    "docs/howto/own_data.md": {"stripes.py": python_of(text_of("docs/howto/own_data.md"))},
    "docs/howto/own_metrics.md": {"mine.py": python_of(text_of("docs/howto/own_metrics.md"))},
    "docs/howto/experiment_file.md": {"mine.toml": blocks(text_of("docs/howto/experiment_file.md"), "toml")[0]},
    "docs/howto/sweeps.md": {"rates.toml": blocks(text_of("docs/howto/sweeps.md"), "toml")[0]},
}
# Results that the commands of a page read, and that no earlier command of the page makes.
READ = {
    "docs/howto/own_metrics.md": ("reparam",),
    "docs/measures/faults.md": ("reparam",),
    "docs/measures/security.md": ("reparam",),
}
FAILS = {"docs/the_trick.md": {"check"}}  # exercises that nobody has solved


def with_python():
    return [name for name in PAGES if python_of(text_of(name))]


def with_commands():
    names = [name for name in PAGES if commands_of(text_of(name)) and name != OWN_MODEL]
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def everywhere():
    return [(name, arguments) for name in PAGES for arguments in commands_of(text_of(name))]


def test_there_are_pages():
    assert len(PAGES) > 20


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", with_python())
def test_the_python_of_a_page_runs_and_prints_what_it_shows(name, environment, tmp_path):
    """In a process of its own, where a ready experiment is the smallest one."""
    text = text_of(name)
    (tmp_path / "page.py").write_text(python_of(text), encoding="utf-8")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "quickstart.toml").write_text(TINY, encoding="utf-8")
    environment = {**environment, "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "page.py"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rest = done.stdout
    for output in outputs_of(text):
        assert output in rest
        rest = rest.partition(output)[2]


@pytest.mark.parametrize(("name", "arguments"), everywhere(), ids=lambda each: " ".join(each).replace("/", "."))
def test_a_command_is_one_that_estbench_knows(name, arguments):
    assert parse(arguments).command.name


def test_commands_that_are_wrong_would_be_found():
    for arguments in (["run", "--step", "3"], ["data", "fetched"], ["runs"]):
        with pytest.raises(Exception, match=r"(?i)no such|unknown"):
            parse(arguments)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", with_commands())
@pytest.mark.usefixtures("forgetful_registries")
def test_the_commands_of_a_page_run(name, tmp_path, monkeypatch, capfd):
    """In their order, in a folder of their own; what trains takes a few steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.savez("faces.npz", images=np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8))
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    for file, content in FILES.get(name, {}).items():
        (tmp_path / file).write_text(content, encoding="utf-8")
    if read := READ.get(name):
        chosen = [f"--estimator={estimator}" for estimator in read]
        assert _exit_code(["run", "quickstart", *chosen, *SHORT]) == 0, capfd.readouterr().err
    for arguments in commands_of(text_of(name)):
        if ONLY_PARSED & set(arguments) or any("dataset=mnist]" in each for each in arguments):
            continue
        short = [*SHORT] if arguments[0] == "run" else ["--yes"] if arguments[0] == "clean" else []
        if "--seeds" in arguments:
            short = [each for each in short if not each.startswith("--seeds")]
        code = _exit_code([*arguments, *short])
        assert code == (1 if arguments[0] in FAILS.get(name, ()) else 0), (arguments, *capfd.readouterr())


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    path, text = PAGES[name], text_of(name)
    for target in links_of(text):
        file, _, anchor = target.partition("#")
        there = (path.parent / file) if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors_of(there.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_one_title(name):
    text = re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1


@pytest.mark.parametrize("name", PAGES)
def test_commands_and_experiments_that_it_names_exist(name):
    text = text_of(name)
    assert set(re.findall(r"`estbench ([a-z-]+)\b", text)) <= set(COMMANDS)
    for experiment in re.findall(r"experiments/[a-z_/]+\.toml", text):
        assert (ROOT / experiment).is_file(), experiment
    for experiment in re.findall(r"estbench run ([a-z_]+)(?![./\w])", text):
        assert experiment in shipped_experiments(), experiment


def numbers_of(text):
    """Return the numbers with an interval: 4.06 [3.51, 4.69]."""
    number = r"[+\u2212-]?\d[\d.,]*(?:e\d+)?"
    return re.findall(rf"{number} \[{number}, {number}\]", plain(prose(text)))


def plain(text):
    """Leave out what marks the best number and a significant difference in a table."""
    return text.replace("**", "").replace(" \\*", "")


@pytest.mark.parametrize("name", [name for name in PAGES if numbers_of(text_of(name))])
def test_its_numbers_are_of_a_committed_table_that_it_links_to(name):
    text = text_of(name)
    tables = [target for target in links_of(text) if "results/" in target and target.endswith(".md")]
    committed = plain(" ".join((PAGES[name].parent / table).read_text(encoding="utf-8") for table in tables))
    assert [number for number in numbers_of(text) if number not in committed] == []
    for experiment in {re.search(r"results/([a-z_]+)/report", table)[1] for table in tables if "/report/" in table}:
        assert re.search(rf"estbench run (experiments/)?{experiment}\b", prose(text) + text), experiment


def test_numbers_with_intervals_are_found():
    text = (
        "It has 4.06 [3.51,\n4.69] times, **9.50e8** [1.61e6, 5.60e11] and \u22120.24 [\u22120.74, +0.26]; [a link](x)."
    )
    found = ["4.06 [3.51, 4.69]", "9.50e8 [1.61e6, 5.60e11]", "\u22120.24 [\u22120.74, +0.26]"]
    assert numbers_of(text) == found


SCRIPT = ROOT / "docs" / "pictures" / "draw.py"


def script_of_pictures():
    specification = importlib.util.spec_from_file_location("draw", SCRIPT)
    draw = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(draw)
    return draw


@pytest.mark.parametrize("process", ["this", pytest.param("its own", marks=pytest.mark.slow)])
def test_the_pictures_of_the_lesson_are_those_that_the_script_draws(tmp_path, environment, process):
    """The same files and sizes; the same bytes with the matplotlib of constraints.txt, except for what is measured."""
    if process == "this":
        with mpl.rc_context():
            mpl.rcdefaults()
            script_of_pictures().draw(tmp_path)
    else:
        command = [sys.executable, str(SCRIPT), "--out", str(tmp_path)]
        environment = {**environment, "MPLBACKEND": "agg"}
        done = subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True, text=True)
        assert done.stderr == ""
    committed = {path.name: path for path in SCRIPT.parent.glob("*.svg")}
    assert {path.name for path in tmp_path.iterdir()} == set(committed)
    assert {f"pictures/{name}" for name in committed} <= set(links_of(text_of("docs/the_trick.md")))
    for name, path in committed.items():
        sizes = [ET.parse(file).getroot().get("viewBox").split() for file in (path, tmp_path / name)]  # noqa: S314
        assert np.allclose(*(np.array(size, float) for size in sizes), rtol=0.05), name
        if f"\nmatplotlib=={version('matplotlib')}\n" in text_of("constraints.txt") and name != "gradients.svg":
            assert path.read_bytes() == (tmp_path / name).read_bytes(), f"{name}: run docs/pictures/draw.py"


def test_the_gradients_in_the_picture_are_of_the_toy():
    drawn, exact = script_of_pictures().gradients(4000)
    assert exact == -1
    assert not drawn["detached"].any()
    for name in ("reinforce", "reparam"):
        error = drawn[name].std() / 4000**0.5
        assert abs(drawn[name].mean() - exact) < 5 * error
    assert drawn["reinforce"].var() > 2 * drawn["reparam"].var()


def test_every_command_has_a_line():
    section = text_of("docs/howto/commands.md").partition("## How they end")[0]
    assert set(re.findall(r"^\| `estbench ([a-z-]+)\b", section, flags=re.MULTILINE)) == set(COMMANDS)


def test_every_estimator_is_in_the_table():
    section = text_of("docs/which_estimator.md").partition("## All estimators")[2].partition("\n## ")[0]
    ours = {name for name in estimators.names() if estimators.ESTIMATORS.get(name).__module__.startswith("estbench.")}
    assert ours <= set(re.findall(r"`([a-z-]+)`", section))


def keys_of(model):
    return {name for name in model.model_fields if name != "source"}


def test_the_experiment_file_with_every_key_has_the_defaults():
    """Also those behind a #, whose value is an example."""
    block = blocks(text_of("docs/howto/experiment_file.md"), "toml")[1]
    experiment = experiment_from(tomllib.loads(block))
    assert experiment == Experiment(estimators=("reparam",))
    assert experiment.model_dump() == Experiment(estimators=("reparam",)).model_dump()
    everything = tomllib.loads(re.sub(r"^# ", "", block, flags=re.MULTILINE))
    assert set(everything) == keys_of(Experiment)
    for part in ("training", "evaluation", "probe", "throughput"):
        assert set(everything[part]) == keys_of(type(getattr(experiment, part))), part
    assert experiment_from(everything)


def test_every_column_of_the_data_frames_is_explained():
    section = text_of("docs/howto/results_in_python.md").partition("## The tables")[2].partition("\n## ")[0]
    rows, frame = {}, ""
    for first, names in re.findall(r"^\| (`\w+`)? *\| ([^|]*) \|", section, flags=re.MULTILINE):
        frame = first.strip("`") or frame
        rows.setdefault(frame, []).extend(re.findall(r"`(\w+)`", names))
    cells = ["key", "folder", "status", "stop_reason", "step", "examples", "evaluations"]
    assert set(rows["cells"]) == {*cells, *(f"{clock}_seconds" for clock in CLOCKS)}
    for frame, schema in (
        ("curves", tables.CURVES),
        ("gradients", tables.GRADIENTS),
        ("throughput", tables.THROUGHPUT),
    ):
        assert set(rows[frame]) == set(schema.names), frame


def test_every_limit_and_status_is_named():
    named = set(re.findall(r"`(ESTBENCH_MAX_\w+)`", text_of("docs/measures/security.md")))
    assert named == {limits.PREFIX + each.name for each in vars(limits).values() if isinstance(each, limits.Limit)}
    rows = re.findall(r"^\| `(\w+)` \|", text_of("docs/measures/faults.md"), flags=re.MULTILINE)
    assert set(rows) == {*Status, MISSING}


def test_each_loop_of_the_page_on_loops_is_short():
    """With the imports of its first block, as a reader would copy it."""
    first, *loops = blocks(text_of("docs/howto/own_loop.md"), "python")
    assert len(loops) == 6
    for loop in loops:
        assert len([line for line in f"{first}{loop}".splitlines() if line.strip()]) < 25
