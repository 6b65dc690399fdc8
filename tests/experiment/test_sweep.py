"""Sweeps: more cells under the keys that they would have anyway."""

from __future__ import annotations

import pytest

from estbench import EstbenchError
from estbench.execution import plan_of
from estbench.experiment.plan import protocol_hash
from estbench.experiment.spec import experiment_from, parse_override
from estbench.experiment.sweep import family, merge_sweeps


def planned(tiny, sweep, **changes):
    return plan_of(experiment_from({**tiny, **changes, "sweep": sweep}))


def test_a_swept_setting_gives_a_cell_for_each_value(tiny):
    plan = planned(tiny, {"learning_rate": [1e-3, 0.01], "batch_size": [8, 16, 32]}, seeds=2)
    assert len(plan) == len({cell.key for cell in plan}) == len({cell.folder for cell in plan}) == 12
    found = [(cell.training.learning_rate, cell.training.batch_size, cell.seed) for cell in plan]
    assert found == [(rate, size, seed) for rate in (1e-3, 0.01) for size in (8, 16, 32) for seed in (0, 1)]
    assert {cell.training.steps for cell in plan} == {30}


@pytest.mark.parametrize(
    ("sweep", "same"),
    [
        ({"learning_rate": [3e-4, 1e-3]}, {"training": {"learning_rate": 3e-4}}),
        ({"learning_rate": [1, 2]}, {"training": {"learning_rate": 1.0}}),
        ({"latent_size": [5, 3]}, {"problems": ["vae[dataset=digits,latent_size=5,hidden=[8]]"]}),
        ({"num_samples": [4]}, {"estimators": ["reinforce[num_samples=4]"]}),
    ],
    ids=["setting", "integer", "problem", "estimator"],
)
def test_a_swept_cell_has_the_key_of_the_same_cell_by_itself(tiny, sweep, same):
    tiny["problems"] = ["vae[dataset=digits,hidden=[8]]"]
    if "num_samples" in sweep:
        tiny["estimators"] = ["reinforce"]
    alone = plan_of(experiment_from({**tiny, **same, "training": {**tiny["training"], **same.get("training", {})}}))
    assert alone.cells[0].key in {cell.key for cell in planned(tiny, sweep)}


def test_an_option_is_swept_wherever_it_exists(tiny):
    plan = planned(tiny, {"num_samples": [2, 4]}, estimators=["reparam", "reinforce", "rloo"])
    assert [cell.estimator.label for cell in plan] == [
        "reparam",
        "reinforce[num_samples=2]",
        "reinforce[num_samples=4]",
        "rloo",  # two samples are its default
        "rloo[num_samples=4]",
    ]


@pytest.mark.parametrize(
    ("sweep", "complaint"),
    [
        ({"learning_rat": [1]}, "called 'learning_rat'; did you mean 'learning_rate'?"),
        ({"learning_rate": []}, "sweep: learning_rate needs at least one value, got none"),
        ({"learning_rate": [0.1, 0.1]}, "sweep: learning_rate is given twice: 0.1"),
        ({"learning_rate": 0.1}, "sweep.learning_rate: input should be a valid"),
        ({"learning_rate": [-1]}, "sweep: learning_rate: input should be greater than 0, got -1"),
        ({"batch_size": [1.5]}, "sweep: batch_size: input should be a valid integer"),
        ({"learning_rate": ["fast"]}, 'sweep: learning_rate: input should be a valid number, got "fast"'),
        ({"batch_size": list(range(1, 200)), "steps": list(range(1, 200))}, "39,601 combinations"),
        ({"latent_size": [2, 3]}, "sets latent_size, which is swept; remove one of the two"),
        ({"num_samples": ["many"]}, "num_samples: input should be a valid integer"),
        ({"num_samples": [0]}, "num_samples: input should be greater than or equal to 1, got 0"),
    ],
)
def test_a_mistake_in_a_sweep(tiny, sweep, complaint):
    with pytest.raises(EstbenchError) as caught:
        planned(tiny, sweep, estimators=["reparam", "reinforce"])
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sweep_on_the_command_line(tiny):
    key, values = parse_override("sweep.learning_rate=[1e-3,1e-2]")
    assert len(plan_of(experiment_from(tiny, {key: values}))) == 2


def test_cells_of_a_sweep_share_all_but_what_is_swept(tiny):
    plan = planned(tiny, {"learning_rate": [1e-3, 1e-2]})
    one, two = (protocol_hash(cell.protocol, plan.experiment.sweep) for cell in plan)
    assert one == two
    assert protocol_hash(plan.cells[0].protocol, ()) not in {one, protocol_hash(plan.cells[1].protocol, ())}
    longer = planned({**tiny, "training": {**tiny["training"], "steps": 31}}, {"learning_rate": [1e-3, 1e-2]})
    assert protocol_hash(longer.cells[0].protocol, longer.experiment.sweep) != one


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ("rloo", "rloo"),
        ("rloo[num_samples=4]", "rloo"),
        ("reinforce[num_samples=4,baseline=ema]", "reinforce[baseline=ema]"),
        ("vae[hidden=[8],latent_size=5]", "vae[hidden=[8],latent_size=5]"),
    ],
)
def test_a_family_is_a_label_without_what_is_swept(label, found):
    assert family(label, ["num_samples"]) == found


def test_values_of_sweeps_are_joined_in_order():
    assert merge_sweeps([{"a": [3, 1]}, {"a": (1, 2), "b": [0]}]) == {"a": [3, 1, 2], "b": [0]}
