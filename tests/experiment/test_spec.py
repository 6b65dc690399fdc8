"""Experiment files: what they may say, and what is answered when they are wrong."""

from __future__ import annotations

import re
import time

import pytest

from estbench import EstbenchError
from estbench.experiment import Evaluation, Probe, Throughput, Training, find_experiment, read_experiment
from estbench.experiment.spec import Experiment, experiment_from, parse_override, shipped_experiments


def test_a_file_is_read(tiny_file):
    experiment = read_experiment(tiny_file)
    assert experiment.name == "tiny"
    assert experiment.estimators == ("reparam",)
    assert (experiment.training.steps, experiment.training.learning_rate) == (30, 1e-3)


def test_a_file_without_a_name_is_called_after_the_file(tmp_path):
    path = tmp_path / "my_try.toml"
    path.write_text("seeds = 2\nestimators = ['stl']\n")
    assert read_experiment(path) == Experiment(name="my_try", estimators=("stl",), seeds=(0, 1))


@pytest.mark.parametrize("text", ["", "name = 'mine'\n", "seeds = 3\n[training]\nsteps = 5\n"])
def test_a_file_that_names_no_estimator_is_no_quickstart(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(EstbenchError, match=r"mine.toml: estimators: is required"):
        read_experiment(path)
    assert read_experiment(path, {"estimators": ["stl"]}).estimators == ("stl",)


def test_a_file_may_begin_with_a_mark_of_byte_order(tmp_path, tiny_file):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + tiny_file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_experiment(path) == read_experiment(tiny_file)


@pytest.mark.parametrize(
    ("written", "seeds"), [(1, (0,)), (3, (0, 1, 2)), ([7], (7,)), ([0, 4, 2], (0, 4, 2)), ((5, 6), (5, 6))]
)
def test_seeds_are_a_count_or_a_list(written, seeds):
    assert experiment_from({"estimators": ["stl"], "seeds": written}).seeds == seeds


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"seeds": 0}, "seeds: needs at least one seed, got 0"),
        ({"seeds": -3}, "seeds: needs at least one seed, got -3"),
        ({"seeds": []}, "seeds: needs at least one entry, got none"),
        ({"seeds": [0, 1, 0]}, "seeds: is given twice: 0"),
        ({"seeds": [-1]}, "seeds.0: input should be greater than or equal to 0, got -1"),
        ({"seeds": True}, "seeds: "),
        ({"seeds": "three"}, "seeds: "),
        ({"seeds": 2.5}, "seeds: "),
        ({"estimators": []}, "estimators: needs at least one entry, got none"),
        ({"estimators": ["reparam", "reparam"]}, "estimators: is given twice: reparam"),
        ({"estimators": "reparam"}, "estimators: input should be a valid array"),
        ({"training": {"steps": -5}}, "training.steps: input should be greater than or equal to 1, got -5"),
        ({"training": {"steps": 0}}, "training.steps: input should be greater than or equal to 1, got 0"),
        ({"training": {"steps": "many"}}, "training.steps: input should be a valid integer"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate: input should be greater than 0, got 0"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate: "),
        ({"training": 5}, "training: "),
        ({"training": {"stpes": 5}}, "unknown key 'training.stpes'; did you mean 'steps'?"),
        ({"trianing": {"steps": 5}}, "unknown key 'trianing'; did you mean 'training'?"),
        ({"probe": {"replicates": 2}}, "takes at least 3 replicates for an interval, or 0 for no probe, not 2"),
        ({"probe": {"replicates": -1}}, "takes at least 3 replicates"),
        ({"name": "../x"}, "name: "),
        ({"name": ""}, "name: takes a-z, 0-9, - and _"),
        ({"learning_rate": 0.1}, "unknown key 'learning_rate'; did you mean 'training.learning_rate'?"),
        ({"training": {"steps": 10**20}}, "training.steps: input should be less than or equal to"),
        ({"training": {"steps": 10**5000}}, "not plain data"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(data, complaint):
    with pytest.raises(EstbenchError, match=r"^experiment: ") as caught:
        experiment_from({"estimators": ["stl"], **data})
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_seed_written_where_a_count_is_meant_does_not_hang():
    start = time.monotonic()
    with pytest.raises(EstbenchError, match="seeds"):
        experiment_from({"estimators": ["stl"], "seeds": 20240101})
    assert time.monotonic() - start < 5


def test_a_missing_file_says_where_to_look(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "none.toml" / "deeper.toml"):
        with pytest.raises(EstbenchError, match=r"no experiment file .*estbench list experiments"):
            read_experiment(path)


@pytest.mark.parametrize("content", [b"name = ", b"[training\n", b"a = 1\na = 2\n", b"\xff\xfe\x00", b"name = 'a'\x00"])
def test_a_malformed_file_is_named(tmp_path, content):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(EstbenchError, match=r"bad\.toml' is not valid TOML: "):
        read_experiment(path)


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("estimators = ['stl']\nseeds = 0\n")
    with pytest.raises(EstbenchError, match=r"^bad\.toml: seeds: "):
        read_experiment(path)


def test_overrides_go_in_first(tiny_file):
    overrides = {"training.steps": 5, "seeds": 2, "throughput.rounds": 1, "estimators": ["stl"], "probe.replicates": 0}
    experiment = read_experiment(tiny_file, overrides)
    assert experiment.training == Training(steps=5, batch_size=16)
    assert (experiment.seeds, experiment.estimators, experiment.throughput.rounds) == ((0, 1), ("stl",), 1)


def test_overrides_leave_what_they_were_given_alone(tiny):
    experiment_from(tiny, {"training.steps": 5, "throughput.rounds": 3})
    assert (tiny["training"]["steps"], tiny["throughput"]["rounds"]) == (30, 0)


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("training.stpes", "unknown key 'training.stpes'; did you mean 'steps'?"),
        ("steps", "unknown key 'steps'"),
        ("training.steps.more", "cannot set 'training.steps.more': 'steps' is a value, not a table"),
        ("name.x", "'name' is a value, not a table"),
        (".", "unknown key"),
        ("training.", "unknown key"),
        ("training", "training: "),
    ],
)
def test_an_override_of_nothing_is_refused(tiny, key, complaint):
    with pytest.raises(EstbenchError, match=re.escape(complaint)):
        experiment_from(tiny, {key: 5})


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("training.steps=500", ("training.steps", 500)),
        (" training.learning_rate = 3e-4 ", ("training.learning_rate", 3e-4)),
        ("seeds=[1,2]", ("seeds", [1, 2])),
        ("throughput.reference=stl", ("throughput.reference", "stl")),
        ('question="a=b"', ("question", "a=b")),
        ("question=Is a = b?", ("question", "Is a = b?")),
    ],
)
def test_a_setting_is_read(text, pair):
    assert parse_override(text) == pair


@pytest.mark.parametrize("text", ["", "training.steps", "=5", "training.steps=", "training.steps=[1", "name=a b"])
def test_a_setting_that_is_none_is_refused(text):
    with pytest.raises(EstbenchError, match="cannot read"):
        parse_override(text)


@pytest.mark.parametrize("name", shipped_experiments())
def test_a_shipped_experiment_says_what_it_asks_and_expects(name):
    experiment = read_experiment(find_experiment(name))
    assert experiment.name == name.rpartition("/")[2]
    assert experiment.question.endswith("?")
    assert len(experiment.expect) > 20


def test_the_shipped_experiments_are_there():
    assert {"quickstart", "reparam_vs_reinforce", "papers/iwae", "papers/iwae_short"} <= set(shipped_experiments())


def test_an_experiment_of_a_paper_has_a_name_of_its_own():
    names = [name.rpartition("/")[2] for name in shipped_experiments()]
    assert sorted(names) == sorted(set(names))
    assert find_experiment("iwae_short") == find_experiment("papers/iwae_short")
    assert find_experiment("iwae_short").parts[-2:] == ("papers", "iwae_short.toml")


def test_the_quickstart_is_shorter_than_the_defaults_and_the_same_otherwise():
    experiment = read_experiment(find_experiment("quickstart"))
    assert experiment.training == Training(steps=Training().steps // 2)
    assert experiment.evaluation == Evaluation(points=Evaluation().points // 2)
    assert experiment.probe == Probe(points=Probe().points - 1)
    assert experiment.throughput == Throughput()


def test_an_experiment_is_found_by_path_or_by_name(tiny_file, monkeypatch, tmp_path):
    assert find_experiment(str(tiny_file)) == tiny_file
    assert find_experiment("quickstart") == shipped_experiments()["quickstart"]
    monkeypatch.chdir(tmp_path)
    assert find_experiment("tiny.toml").resolve() == tiny_file


def test_a_file_goes_before_a_ready_experiment_of_that_name(monkeypatch, tmp_path):
    (tmp_path / "quickstart").write_text("seeds = 1\n")
    monkeypatch.chdir(tmp_path)
    assert find_experiment("quickstart").resolve() == tmp_path / "quickstart"


@pytest.mark.parametrize("name", ["nothing like it", "x" * 100])
def test_an_unknown_experiment_lists_what_is_known(name):
    with pytest.raises(EstbenchError, match=r"no experiment file or ready experiment .*known: .*quickstart"):
        find_experiment(name)


def test_a_name_that_is_nearly_one_is_hinted_at_and_no_list_is_in_the_way():
    with pytest.raises(EstbenchError) as caught:
        find_experiment("quikstart")
    assert str(caught.value).endswith("did you mean 'quickstart'?")


@pytest.mark.parametrize(
    ("part", "setting"),
    [
        ("training", "steps"),
        ("training", "batch_size"),
        ("evaluation", "num_samples"),
        ("evaluation", "final_num_samples"),
        ("evaluation", "examples"),
        ("probe", "replicates"),
        ("probe", "reference_replicates"),
    ],
)
def test_a_size_that_nobody_means_is_refused_with_the_limit(part, setting):
    with pytest.raises(EstbenchError, match=rf"{part}\.{setting}: .*less than or equal to 10+, got 9+"):
        experiment_from({"estimators": ["reparam"], part: {setting: 99999999999999999999}})
