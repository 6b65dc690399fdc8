"""The plan: which cells, and under which keys."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from estbench import EstbenchError, estimators, problems
from estbench.experiment import Cell, Evaluation, find_experiment, make_plan, read_experiment
from estbench.experiment.plan import cell_from_record
from estbench.experiment.spec import experiment_from
from estbench.registry import Resolved


def planned(data):
    return make_plan(experiment_from(data), estimators.ESTIMATORS.resolve, problems.PROBLEMS.resolve)


@pytest.fixture
def cell(tiny) -> Cell:
    return planned(tiny).cells[0]


def test_the_keys_of_the_quickstart_are_the_same_for_ever():
    """A new key makes everybody's stored cells worthless: change it on purpose, and raise the schema's version."""
    plan = make_plan(
        read_experiment(find_experiment("quickstart")), estimators.ESTIMATORS.resolve, problems.PROBLEMS.resolve
    )
    assert [cell.key for cell in plan] == ["21b1d54f229357f730a68d4ca2798675c266ffa0a2f3c8634b323050c46e3608"]
    assert plan.cells[0].folder == "reparam-vae-s0-21b1d54f"


def test_a_plan_is_every_problem_with_every_seed_and_every_estimator(tiny):
    tiny |= {"estimators": ["reparam", "reinforce"], "seeds": [3, 5], "problems": ["vae", "vae[latent_size=2]"]}
    plan = planned(tiny)
    assert len(plan) == 8
    assert len({cell.key for cell in plan}) == 8
    assert len({cell.folder for cell in plan}) == 8
    assert [(cell.problem.label, cell.seed, cell.estimator.label) for cell in plan][:3] == [
        ("vae", 3, "reparam"),
        ("vae", 3, "reinforce"),
        ("vae", 5, "reparam"),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("reinforce[baseline=ema,num_samples=4]", "reinforce[num_samples=4,baseline=ema]"),
        ("reinforce[baseline=ema,decay=0.9]", "reinforce[baseline=ema]"),
        ("rloo[num_samples=2]", "rloo"),
        ("rloo[]", " rloo "),
        ('reinforce[baseline="ema"]', "reinforce[baseline=ema]"),
    ],
)
def test_a_key_does_not_depend_on_how_a_variant_was_written(tiny, one, other):
    first, second = (planned({**tiny, "estimators": [written]}).cells[0] for written in (one, other))
    assert (first.key, first.folder, first.estimator.label) == (second.key, second.folder, second.estimator.label)
    with pytest.raises(EstbenchError, match="are the same estimator; remove one"):
        planned({**tiny, "estimators": ["reparam", one, other]})


def test_a_key_depends_on_every_setting_of_the_protocol(tiny):
    changes = {
        "training": {
            "steps": 31,
            "batch_size": 17,
            "learning_rate": 2e-3,
            "estimator_learning_rate": 0.1,
            "optimizer": "sgd",
            "schedule": "cosine",
            "warmup_steps": 3,
            "clip_norm": 2.0,
            "kl_weight": 0.5,
            "temperature": {"start": 1.0, "end": 0.5, "steps": 3},
        },
        "evaluation": {
            "every": 11,
            "num_samples": 3,
            "examples": 21,
            "final_num_samples": 5,
            "final_examples": 7,
            "pictures": False,
            "metrics": ["sigma"],
        },
        "probe": {"replicates": 4, "points": 3, "shared": "stl", "reference": "exact", "path": "loop"},
    }
    cell = planned(tiny).cells[0]
    keys = [cell.key]
    for part, settings in changes.items():
        idle = {"tracking_steps", "reference_replicates", "source", "points", "weight_decay"}
        dependent = idle - set(settings)
        assert set(settings) == set(type(getattr(cell, part)).model_fields) - dependent, "a setting is not tested"
        keys += [planned({**tiny, part: {**tiny[part], name: value}}).cells[0].key for name, value in settings.items()]
    assert len(set(keys)) == len(keys)


def test_a_protocol_without_metrics_has_no_word_of_them(cell):
    assert not {"metrics", "source"} & set(cell.protocol["evaluation"])
    assert not {"metrics", "source"} & set(experiment_from({"estimators": ["stl"]}).model_dump()["evaluation"])


@pytest.mark.parametrize(
    ("evaluation", "complaint"),
    [({"metrics": ["a", "a"]}, "is given twice: a"), ({"source": "f00d"}, "source is set by a run; leave it out")],
)
def test_what_an_evaluation_refuses(tiny, evaluation, complaint):
    with pytest.raises(EstbenchError, match=complaint):
        planned({**tiny, "evaluation": evaluation})


def test_of_two_schedules_of_evaluation_the_one_in_use_counts(tiny):
    def key(**evaluation):
        return planned({**tiny, "evaluation": evaluation}).cells[0].key

    assert key(every=10, points=7) == key(every=10) != key(every=11)
    assert key(points=7) != key(points=8)


@pytest.mark.parametrize(
    ("last", "settings", "steps"),
    [
        (2000, {"points": 4}, [0, 10, 58, 342, 2000]),
        (2000, {"points": 1}, [0, 2000]),
        (3, {"points": 20}, [0, 1, 2, 3]),
        (1, {}, [0, 1]),
        (10, {"every": 4}, [0, 4, 8, 10]),
        (10, {"every": 400}, [0, 10]),
    ],
)
def test_evaluations_are_log_spaced_or_at_equal_distances(last, settings, steps):
    assert Evaluation(**settings).steps(last) == steps


@pytest.mark.parametrize("last", [100, 1000, 100_000])
def test_twenty_evaluations_have_nearly_equal_ratios(last):
    steps = Evaluation().steps(last)[1:]
    ratios = [after / before for before, after in itertools.pairwise(steps) if before >= 20]
    assert len(steps) <= 20
    assert max(ratios) < 1.4
    assert steps[-1] == last


@pytest.mark.parametrize(
    ("needed", "setting"), [({"shared": "stl"}, "tracking_steps"), ({"reference": "stl"}, "reference_replicates")]
)
def test_a_setting_of_the_probe_counts_only_where_it_has_an_effect(tiny, needed, setting):
    def key(**probe):
        return planned({**tiny, "probe": {**tiny["probe"], **probe}}).cells[0].key

    assert key(**{setting: 77}) == key()
    assert key(**needed, **{setting: 77}) != key(**needed) != key()


def test_a_key_depends_on_seed_estimator_problem_options_and_versions(cell):
    estimator, problem = cell.estimator, cell.problem
    others = [
        replace(cell, seed=1),
        replace(cell, estimator=replace(estimator, name="stl")),
        replace(cell, estimator=replace(estimator, version=2)),
        replace(cell, estimator=replace(estimator, options={"x": 1})),
        replace(cell, estimator=replace(estimator, source="f00d")),
        replace(cell, problem=replace(problem, source="f00d")),
        replace(cell, probe=cell.probe.model_copy(update={"source": "f00d"})),
        replace(cell, problem=replace(problem, name="other")),
        replace(cell, problem=replace(problem, version=2)),
        replace(cell, problem=replace(problem, card="digits-v2-dynamic-shuffled-normal-fixed-binary")),
        replace(cell, problem=replace(problem, options={**problem.options, "latent_size": 3})),
    ]
    assert len({cell.key, *(other.key for other in others)}) == 1 + len(others)


def test_labels_names_questions_and_timing_are_no_part_of_a_key(tiny, cell):
    assert replace(cell, estimator=replace(cell.estimator, label="else")).key == cell.key
    people = {"name": "other", "question": "?", "expect": "!", "throughput": {"rounds": 3}}
    assert planned({**tiny, **people}).cells[0].key == cell.key


@pytest.mark.parametrize(
    "label",
    [
        "e[x=../../x]",
        "e[x=..]",
        "e[x=a/b\\c]",
        "e[x=ünïcode]",
        "e[x=日本]",
        "e[x=a b\n]",
        f"e[x={'x' * 500}]",
        "e[x='\0']",
        "e[x=C:]",
    ],
)
def test_the_name_of_a_folder_is_safe(cell, label):
    cell = replace(cell, estimator=Resolved("e", {"x": label}, 1, label))
    assert set(cell.folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert Path(cell.folder).name == cell.folder
    assert cell.folder.startswith("e-")
    assert len(cell.folder) < 150
    assert cell.folder.endswith(f"-vae-s0-{cell.key[:8]}")


def test_a_cell_comes_back_from_its_record(cell):
    again = cell_from_record(json.loads(json.dumps(cell.as_dict())))
    assert again.key == cell.key
    assert again == cell
