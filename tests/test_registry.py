"""Names to classes: resolving, mistakes, plugins and entry points."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest

from estbench import EstbenchError, datasets, estimators, problems
from estbench.estimators import Estimator
from estbench.options import BaseOptions
from estbench.plugins import load_plugin
from estbench.registry import Registry

SAMPLER = """
from estbench.estimators import Estimator, register


@register("{name}")
class Sampler(Estimator):
    summary = "x"
    supports = {{"normal"}}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1
"""


class Knobs(BaseOptions):
    size: int = 3
    rate: float = 1.0
    layers: tuple[int, ...] = (2,)
    kind: str = "plain"


@pytest.fixture
def registry():
    made = Registry("estimator")
    made._entry_points_loaded = True

    class Thing:
        Options = Knobs
        version = 7

        def __init__(self, options):
            self.options = options

    made.register("thing")(Thing)
    return made


def test_created_with_defaults_and_options(registry):
    assert registry.create("thing").options == Knobs()
    assert registry.create("thing[size=5,layers=[1,2]]").options == Knobs(size=5, layers=(1, 2))


@pytest.mark.parametrize(
    "written", ["thing[size=4,rate=2.0]", "thing[rate=2,size=4]", "thing[rate=2e0,size=4,kind=plain,layers=[2]]"]
)
def test_a_label_is_the_same_however_it_was_written(registry, written):
    resolved = registry.resolve(written)
    assert resolved.label == "thing[size=4,rate=2.0]"
    assert resolved.options == {"size": 4, "rate": 2.0, "layers": [2], "kind": "plain"}
    assert resolved.version == 7


def test_a_label_resolves_to_itself(registry):
    for written in ("thing", "thing[size=4]", "thing[layers=[]]", "thing[kind=odd,rate=1e-05]"):
        label = registry.resolve(written).label
        assert registry.resolve(label).label == label


@pytest.mark.parametrize(("typo", "nearest"), [("reparm", "reparam"), ("reinfroce", "reinforce"), ("rlo", "rloo")])
def test_a_typo_is_answered_with_the_nearest_name(typo, nearest):
    with pytest.raises(EstbenchError, match=rf"unknown estimator '{typo}'; did you mean '{nearest}'\?; load"):
        estimators.create(typo)


def test_a_name_like_no_other_lists_what_is_known():
    with pytest.raises(EstbenchError, match=r"unknown problem 'zzzzzz'; known: .*vae"):
        problems.create("zzzzzz")


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ("rloo[samples=4]", r"estimator 'rloo': unknown key 'samples'; did you mean 'num_samples'\?"),
        ("rloo[num_samples=four]", r'num_samples: .*valid integer, got "four"'),
        ("rloo[num_samples=2.5]", r"num_samples: .*valid integer.*, got 2\.5"),
        ("rloo[num_samples=1]", r"num_samples: .*greater than or equal to 2, got 1"),
        ("rloo[num_samples=true]", r"num_samples: .*valid integer, got true"),
        ("reinforce[baseline=emma]", r"baseline: .*'none', 'ema', 'nvil', 'optimal' or 'group', got \"emma\""),
        ("reinforce[decay=0.5]", r"'decay' has no effect with baseline=none; drop it"),
        ("reparam[x=1]", r"estimator 'reparam': unknown key 'x'"),
    ],
)
def test_a_wrong_option_is_named_with_its_estimator(variant, complaint):
    with pytest.raises(EstbenchError, match=complaint):
        estimators.create(variant)


def test_a_wrong_dataset_is_named_with_the_nearest():
    with pytest.raises(EstbenchError, match=r"unknown dataset 'mnist5'; did you mean 'mnist5k'\?"):
        problems.create("vae[dataset=mnist5]")


@pytest.mark.parametrize("name", ["", "Upper", "with space", "a/b", "a[b]", "-a"])
def test_a_name_that_could_not_be_written_is_refused(name):
    with pytest.raises(EstbenchError, match=r"invalid .* name"):
        Registry("estimator").register(name)


def test_a_name_is_taken_once(plugin):
    path = plugin("mine.py", SAMPLER.format(name="reparam"))
    with pytest.raises(EstbenchError, match=r"the estimator 'reparam' exists already \(in estbench\.estimators"):
        load_plugin(path)


def test_two_classes_of_one_plugin_cannot_share_a_name(plugin):
    twice = SAMPLER.format(name="twin") + SAMPLER.format(name="twin").replace("class Sampler", "class Other")
    with pytest.raises(EstbenchError, match="'twin' exists already"):
        load_plugin(plugin("twins.py", twice))


def test_two_plugins_of_one_file_name_cannot_share_a_name(plugin, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    load_plugin(plugin("mine.py", SAMPLER.format(name="twin")))
    with pytest.raises(EstbenchError, match="'twin' exists already"):
        load_plugin(plugin("elsewhere/mine.py", SAMPLER.format(name="twin")))


def test_a_plugin_may_be_loaded_twice(plugin):
    path = plugin("mine.py", SAMPLER.format(name="mine"))
    load_plugin(path)
    load_plugin(path)
    assert estimators.names().count("mine") == 1


def test_a_plugin_registers_an_estimator(plugin):
    load_plugin(plugin("mine.py", SAMPLER.format(name="mine")))
    assert "mine" in estimators.names()
    assert estimators.describe("mine")["summary"] == "x"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("broken.py", "x = 1\n\nx / 0\n", r"broken\.py', line 3: ZeroDivisionError: division by zero"),
        ("syntax.py", "x = 1\ndef (\n", r"syntax\.py'.*SyntaxError: .*line 2"),
        ("imports.py", "import no_such_module\n", r"imports\.py', line 1: ModuleNotFoundError: .*no_such_module"),
        ("notes.txt", "x = 1\n", r"notes\.txt' is no Python file"),
    ],
)
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_broken_plugin_is_one_line_that_says_where(plugin, monkeypatch, tmp_path, name, text, complaint, relative):
    path = plugin(name, text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EstbenchError, match=complaint) as caught:
        load_plugin(name if relative else path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.py", "."])
def test_a_missing_plugin_says_what_the_option_takes(tmp_path, name):
    with pytest.raises(EstbenchError, match=r"no plugin file .*--plugin takes the path of a Python file"):
        load_plugin(tmp_path / name)


@pytest.mark.parametrize("fact", ["summary", "supports", "unbiased", "needs_differentiable_f", "evaluations"])
def test_an_estimator_that_leaves_out_a_fact_is_refused(plugin, fact):
    text = "\n".join(line for line in SAMPLER.format(name="mine").splitlines() if f"{fact} =" not in line)
    path = plugin("mine.py", text)

    def load_and_describe():
        load_plugin(path)
        estimators.describe("mine")

    with pytest.raises(EstbenchError, match=rf"estimator 'mine' does not declare {fact}"):
        load_and_describe()


def entry_points(monkeypatch, **found):
    points = [SimpleNamespace(name=name, load=load, value="a_package:Thing") for name, load in found.items()]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda *, group: points if group == "estbench.estimators" else []
    )


def test_an_installed_package_is_found_by_its_entry_point(monkeypatch):
    class FromAPackage(Estimator):
        summary, supports, unbiased, needs_differentiable_f, evaluations = "x", {"normal"}, True, True, 1

    entry_points(monkeypatch, installed=lambda: FromAPackage)
    registry = Registry("estimator")
    assert registry.names() == ["installed"]
    assert isinstance(registry.create("installed"), FromAPackage)
    assert FromAPackage.name == "installed"


def test_an_entry_point_never_replaces_what_is_there(monkeypatch):
    class Original(Estimator):
        pass

    entry_points(monkeypatch, taken=lambda: object)
    registry = Registry("estimator")
    registry.register("taken")(Original)
    assert registry.get("taken") is Original


def test_a_broken_entry_point_is_named_once_and_left_out(monkeypatch, capsys):
    def load():
        raise ImportError("no module named that")

    def leave():
        raise SystemExit(0)

    class Right(Estimator):
        pass

    entry_points(monkeypatch, broken=load, left=leave, right=lambda: Right)
    registry = Registry("estimator")
    assert registry.names() == ["right"]
    assert registry.names() == ["right"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" from ")[0] for line in lines] == [
        "Warning: cannot load the estimator 'broken'",
        "Warning: cannot load the estimator 'left'",
    ]
    with pytest.raises(EstbenchError, match=r"broken.*no module named that.*uninstall"):
        registry.get("broken")


def test_an_entry_point_may_be_a_class_a_module_or_a_function(monkeypatch, capsys):
    registry = Registry("estimator")

    class Mine(Estimator):
        pass

    def module():
        registry.register("module")(Mine)
        return ModuleType("a_package")

    def registering():
        registry.register("function")(type("Other", (Mine,), {}))

    points = {"class": lambda: Mine, "module": module, "function": lambda: registering, "maker": lambda: lambda: Mine}
    entry_points(monkeypatch, **points, empty=lambda: ModuleType("nothing"), number=lambda: lambda: 7)
    assert registry.names() == ["class", "module", "function", "maker"]
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 2
    assert "'empty'" in complaints[0]
    assert "registers no estimator" in complaints[0]
    assert "'number'" in complaints[1]


def test_an_entry_point_of_a_network_is_the_function_itself(monkeypatch, capsys):
    def layers(sizes):
        return sizes

    points = [SimpleNamespace(name="layers", load=lambda: layers, value="a_package:layers")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: points)
    registry = Registry("network")
    assert registry.build("layers", 3) == 3
    assert capsys.readouterr().err == ""


def test_one_class_under_two_names_answers_to_each():
    registry = Registry("estimator")

    class Mine(Estimator):
        pass

    for name in ("first", "second", "first"):
        assert registry.register(name)(Mine) is Mine
    assert [registry.get(name).name for name in ("first", "second")] == ["first", "second"]
    assert isinstance(registry.create("second"), Mine)


def test_one_dataset_under_two_names_keeps_both_cards(monkeypatch):
    monkeypatch.setattr(datasets.DATASETS, "_entries", dict(datasets.DATASETS._entries))

    def load():
        """Nothing."""

    for name in ("first", "second"):
        datasets.register(name, datasets.DatasetInfo(f"split-of-{name}"))(load)
    assert [datasets.info(name).split for name in ("first", "second")] == ["split-of-first", "split-of-second"]
    assert datasets.describe("second") == "Nothing."


def test_an_unknown_name_says_how_ones_own_comes_in():
    with pytest.raises(EstbenchError, match=r"unknown estimator 'mine'.*--plugin"):
        estimators.create("mine")
