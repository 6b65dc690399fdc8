"""Plugins and what lies beside them: each has its own helpers, and nothing else in the process changes."""

from __future__ import annotations

import sys

import pytest

import estbench
from estbench import EstbenchError, estimators
from estbench.plugins import is_current, load_plugin

PLUGIN = """
{imports}
from estbench.estimators import Estimator, register


@register("{name}")
class Mine(Estimator):
    summary = "mine"
    supports = {{"normal"}}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1
    value = {value}

    def forward(self, objective):
        {late}
        return FACTOR * objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()


FACTOR = 1.0
"""


def text(imports: str, value: str, name: str = "mine", late: str = "pass") -> str:
    return PLUGIN.format(imports=imports, value=value, name=name, late=late)


@pytest.fixture
def files(tmp_path, plugin):
    """Write files; what is registered is forgotten after the test."""

    def write(**contents: str):
        for name, content in contents.items():
            path = tmp_path / f"{name.replace('__', '/').replace('pkg', '__init__')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    yield write
    for name in [name for name in sys.modules if name.startswith("estbench_plugin_")]:
        del sys.modules[name]


def value(name: str = "mine"):
    return estimators.ESTIMATORS.get(name).value


BESIDE = {
    "module": ("import helpers", "helpers.K"),
    "name": ("from helpers import K", "K"),
    "other name": ("import helpers as h", "h.K"),
    "star": ("from helpers import *", "K"),
    "package": ("import layers", "layers.K"),
    "in a package": ("import layers.dense", "layers.dense.K"),
    "from a package": ("from layers import dense", "dense.K"),
    "deep": ("from layers.dense import K", "K"),
    "folder without init": ("from loose.part import K", "K"),
    "through another": ("from chain import K", "K"),
    "relative": ("from .helpers import K", "K"),
    "relative module": ("from . import helpers", "helpers.K"),
    "in a function": ("def late():\n    from helpers import K\n    return K", "late()"),
}


@pytest.mark.parametrize("how", BESIDE)
def test_a_plugin_imports_what_lies_beside_it(files, monkeypatch, how):
    folder = files(
        mine=text(*BESIDE[how]),
        helpers="K = 3",
        chain="import helpers\nK = helpers.K",
        layers__pkg="K = 3",
        layers__dense="from . import K",
        loose__part="K = 3",
    )
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    path = list(sys.path)
    load_plugin("../mine.py")
    assert value() == 3
    assert sys.path == path
    assert not {"helpers", "layers", "loose", "chain"} & set(sys.modules)
    assert not list(folder.rglob("__pycache__"))


def test_two_plugins_have_helpers_of_one_name(files):
    folder = files(
        a__mine=text("import utils", "utils.K", "first"),
        a__utils="K = 1",
        b__mine=text("import utils", "utils.K", "second"),
        b__utils="K = 2",
    )
    for each in ("a", "b"):
        load_plugin(folder / each / "mine.py")
    assert (value("first"), value("second")) == (1, 2)


@pytest.mark.parametrize("name", ["json", "random", "torch", "numpy"])
def test_a_file_beside_never_stands_in_for_what_estbench_needs(files, name):
    before = sys.modules.get(name)
    folder = files(mine=text(f"import {name}", f"{name}.__name__"), **{name: "raise SystemExit"})
    load_plugin(folder / "mine.py")
    assert value() == name
    assert sys.modules.get(name) in {before, __import__(name)}


def test_a_file_beside_comes_before_an_installed_package_only_for_the_plugin(files):
    import click

    load_plugin(files(mine=text("import click", "click.K"), click="K = 3") / "mine.py")
    assert value() == 3
    assert sys.modules["click"] is click


def test_a_plugin_may_be_part_of_a_package(files):
    folder = files(
        project__pkg="",
        project__common="K = 2",
        project__plugins__pkg="",
        project__plugins__mine=text("from ..common import K\nimport project.common\nfrom .near import N", "K + N"),
        project__plugins__near="from project.common import K as N",
    )
    load_plugin(folder / "project" / "plugins" / "mine.py")
    assert value() == 4


@pytest.mark.parametrize("path", ["project", "project/__init__.py"])
def test_a_plugin_may_be_a_package(files, path):
    load_plugin(files(project__pkg=text("from .nets import K", "K"), project__nets="K = 3") / path)
    assert value() == 3


@pytest.mark.parametrize("name", ["my-plugin.py", "my plugin v1.2.py", "1st.py", "ünï.py"])
def test_a_plugin_may_be_called_anything(files, name):
    folder = files(mine=text("import helpers", "helpers.K"), helpers="K = 3")
    load_plugin((folder / "mine.py").rename(folder / name))
    assert value() == 3


def test_a_helper_that_was_edited_is_loaded_again(files):
    folder = files(mine=text("import helpers", "helpers.K"), helpers="K = 1")
    path = folder / "mine.py"
    assert not is_current(path)
    load_plugin(path)
    assert is_current(path)
    files(helpers="K = 2")
    assert not is_current(path)
    load_plugin(path)
    assert value() == 2


@pytest.mark.parametrize("error", ["SystemExit(0)", "GeneratorExit()", "type('Odd', (BaseException,), {})('x')"])
def test_whatever_a_plugin_raises_is_one_line(files, error):
    folder = files(mine="import helpers", helpers=f"x = 1\nraise {error}")
    with pytest.raises(EstbenchError, match=r"mine\.py', line 1: .*helpers\.py, line 2") as caught:
        load_plugin(folder / "mine.py")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changed", ["mine", "helpers"])
@pytest.mark.parametrize("jobs", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_mended_plugin_is_a_new_run(files, tiny, tmp_path, changed, jobs):
    sources = {"mine": text("from helpers import half", "1", late="FACTOR = half"), "helpers": "half = 0.5\n"}
    folder = files(**sources)
    tiny |= {"estimators": ["mine", "reparam"]}

    def run():
        return estbench.run(tiny, out=tmp_path / "r", plugins=[folder / "mine.py"], jobs=jobs)

    first, again = run().cells, run().cells
    assert first["key"].tolist() == again["key"].tolist()
    files(**{changed: sources[changed].replace("FACTOR = 1.0", "FACTOR = 2.0").replace("0.5", "1.0") + "# mended\n"})
    if changed == "mine":
        assert run().cells["key"].tolist() == first["key"].tolist(), "FACTOR is local: nothing it uses was changed"
        return
    mended = run()
    assert mended.cells["status"].tolist() == ["done", "done"]
    before, after = (dict(zip(each["estimator"], each["key"], strict=True)) for each in (first, mended.cells))
    assert before["mine"] != after["mine"]
    assert before["reparam"] == after["reparam"]
    (record,) = (each for each in mended.records.values() if each["cell"]["estimator"]["name"] == "mine")
    assert len(record["cell"]["estimator"]["source"]) == 64
    assert record["cell"]["problem"]["source"] == ""


DATA = """
import numpy as np
from estbench.datasets import Dataset, register


@register("faces")
def load():
    images = np.random.default_rng(0).random((60, 64)) * SCALE
    return Dataset("faces", images[:40], images[40:50], images[50:], shape=(8, 8))


SCALE = 0.5
"""


def test_an_edited_dataset_of_a_shipped_problem_is_a_new_run(files, tiny, tmp_path):
    folder = files(data=DATA)
    tiny |= {"problems": ["vae[dataset=faces,hidden=[8],latent_size=2]"]}
    keys = []
    for text in (DATA, DATA + "# a comment\n", DATA.replace("SCALE = 0.5", "SCALE = 0.6")):
        files(data=text)
        results = estbench.run(tiny, out=tmp_path / "r", plugins=[folder / "data.py"])
        keys += results.cells["key"].tolist()
    assert keys[0] == keys[1] != keys[2]


METRIC = """
from estbench.measure import register_metric


@register_metric("mine")
def mine(problem, estimator, x):
    return SCALE * x.mean()


SCALE = 0.5
"""


def test_an_edited_metric_is_a_new_run_where_it_is_measured(files, tiny, tmp_path):
    def keys_of(text, metrics):
        load_plugin(files(metric=text) / "metric.py")
        evaluation = {**tiny["evaluation"], "metrics": metrics}
        experiment = estbench.execution.as_experiment({**tiny, "evaluation": evaluation})
        return [cell.key for cell in estbench.execution.plan_of(experiment).cells]

    edited = METRIC.replace("SCALE = 0.5", "SCALE = 0.6")
    first, same, other = (keys_of(text, ["mine"]) for text in (METRIC, METRIC + "# a comment\n", edited))
    assert first == same != other
    assert keys_of(METRIC, []) == keys_of(edited, [])
    assert keys_of(METRIC, ["mine", "sigma"]) == keys_of(METRIC, ["sigma", "mine"]) != first


def test_an_unknown_metric_is_refused_before_anything_is_written(tiny, tmp_path):
    tiny["evaluation"]["metrics"] = ["sigmo"]
    with pytest.raises(EstbenchError, match="unknown metric 'sigmo'; did you mean 'sigma'"):
        estbench.run(tiny, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("jobs", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_metric_of_a_plugin_is_measured(files, tiny, tmp_path, jobs):
    tiny["evaluation"]["metrics"] = ["mine"]
    results = estbench.run(tiny, out=tmp_path / "r", plugins=[files(metric=METRIC) / "metric.py"], jobs=jobs)
    assert results.curves.query("metric == 'mine'")["value"].notna().sum() == 12
    (cell,) = results.plan["cells"]
    assert len(cell["evaluation"]["source"]) == 64


def test_a_neutral_estimator_and_a_reference_of_ones_own_are_part_of_every_key(files, tiny, tmp_path):
    keys = []
    for factor in ("1.0", "2.0"):
        folder = files(mine=text("", "1").replace("FACTOR = 1.0", f"FACTOR = {factor}"))
        load_plugin(folder / "mine.py")
        for probe in ({"shared": "mine"}, {"reference": "mine"}):
            plan = estbench.execution.plan_of(
                estbench.execution.as_experiment({**tiny, "probe": {"replicates": 3, **probe}})
            )
            keys.append(plan.cells[0].key)
    assert len(set(keys)) == 4
