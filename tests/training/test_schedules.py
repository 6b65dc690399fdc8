"""Training with a weight of the KL, a schedule of the temperature, warm-up and clipped gradients."""

from __future__ import annotations

import pytest
import torch

import estbench
from estbench import EstbenchError
from estbench.training import take_steps

WARM_UP = {"start": 0.0, "end": 1.0, "steps": 20}
COOLING = {"start": 1.0, "end": 0.1, "steps": 20, "shape": "exponential"}
BITS = "vae[dataset=digits,hidden=[8],latent_size=4,latents=bernoulli]"
CATEGORIES = "vae[dataset=digits,hidden=[8],latent_size=2,latents=categorical,categories=3]"
LAYERS = "hierarchical_vae[dataset=digits,hidden=[8],latent_size=3]"
MIXED = "mixed_vae[dataset=digits,hidden=[8],continuous_size=2,categories=3]"


def seen_by(state, steps, seen):
    """What an estimator sees at each step."""
    original = type(state.estimator).forward

    def forward(objective):
        seen(state, objective)
        return original(state.estimator, objective)

    state.estimator.forward = forward
    take_steps(state, steps)


def test_every_step_has_the_weight_of_its_schedule(make_state):
    weights = []
    seen_by(make_state(training__kl_weight=WARM_UP), 25, lambda _, objective: weights.append(objective.kl_weight))
    assert weights == pytest.approx([min(step / 20, 1.0) for step in range(25)])


@pytest.mark.parametrize("problem", [LAYERS, MIXED])
def test_two_latents_have_the_weight_too(make_state, problem):
    state = make_state("rloo", problems=[problem], training__kl_weight=0.25)
    objective = state.problem(next(state.batches))
    assert objective.kl_weight == 0.25
    inner = objective.second(objective.q.sample())
    assert inner.kl_weight == (1.0 if problem == LAYERS else 0.25)


@pytest.mark.parametrize(
    ("estimator", "problem"),
    [
        ("concrete", BITS),
        ("gumbel-softmax", CATEGORIES),
        ("st-gumbel", CATEGORIES),
        ("gumbel-rao", CATEGORIES),
        ("gapped-st", CATEGORIES),
        ("per_latent[y=st-gumbel,z=reparam]", MIXED),
    ],
)
def test_every_step_has_the_temperature_of_its_schedule(make_state, estimator, problem):
    """Bit by bit the run of an estimator with this temperature as its option."""
    state = make_state(estimator, problems=[problem], training__temperature=COOLING)
    temperatures = []

    def note(state, _):
        part = state.estimator.parts[0]
        temperatures.append(part.options.temperature)

    seen_by(state, 22, note)
    assert temperatures == pytest.approx([0.1 ** min(step / 20, 1.0) for step in range(22)])


def test_a_constant_schedule_is_the_option(make_state):
    scheduled = make_state("concrete", problems=[BITS], training__temperature={"start": 0.3, "end": 0.3, "steps": 1})
    fixed = make_state("concrete[temperature=0.3]", problems=[BITS])
    for state in (scheduled, fixed):
        torch.manual_seed(3)
        take_steps(state, 5)
    for first, second in zip(scheduled.problem.parameters(), fixed.problem.parameters(), strict=True):
        assert torch.equal(first, second)


CHANGES = {
    "training__kl_weight": WARM_UP,
    "training__temperature": COOLING,
    "training__warmup_steps": 12,
    "training__clip_norm": 0.5,
    "training__optimizer": "adamw",
}


def test_a_resumed_run_ends_with_the_same_bits(train_cell, stop_at):
    changes = {"problems": [BITS], "probe__replicates": 5, **CHANGES}
    whole = train_cell("concrete", name="whole", **changes)
    train_cell("concrete", options={"interrupted": stop_at(10)}, **changes)
    assert train_cell("concrete", **changes).bits == whole.bits
    plain = train_cell("concrete", name="plain", problems=[BITS], probe__replicates=5)
    assert plain.bits[0] != whole.bits[0]


def test_bounds_are_those_of_weight_one(train_cell):
    """The ELBO before training is the same with any weight; so is its split into likelihood and KL."""
    found = []
    for weight in (1.0, 0.0, 5.0):
        curves = train_cell(name=f"w{weight}", training__kl_weight=weight).curves
        start = curves[(curves["step"] == 0) & (curves["split"] == "test")]
        found.append(start.set_index("metric")["value"].to_dict())
    assert found[0] == found[1] == found[2]


def test_gradients_are_clipped_and_their_own_norm_is_recorded(train_cell, make_state):
    limit = 0.01
    state = make_state(training__clip_norm=limit)
    torch.manual_seed(3)
    take_steps(state, 1)
    clipped = torch.nn.utils.get_total_norm([weight.grad for weight in state.problem.parameters()])
    assert float(clipped) == pytest.approx(limit, rel=1e-3)
    assert float(state.unclipped_norm) > 10 * limit
    free = make_state()
    torch.manual_seed(3)
    take_steps(free, 1)
    own = torch.nn.utils.get_total_norm([weight.grad for weight in free.problem.parameters()])
    assert float(state.unclipped_norm) == pytest.approx(float(own), rel=1e-5)
    curves = train_cell(training__clip_norm=limit).curves
    assert (curves[curves["metric"] == "gradient_norm"]["value"] > limit).all()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"problems": ["linear_gaussian"], "training": {"kl_weight": 0.5}},
            "does not take the weight of the KL that training gives it; pass kl_weight=self.kl_weight",
        ),
        (
            {"problems": ["linear_gaussian"], "training": {"kl_weight": {"start": 1.0, "end": 2.0, "steps": 2}}},
            "does not take the weight of the KL",
        ),
        (
            {
                "estimators": ["iwae"],
                "problems": ["vae[dataset=digits,hidden=[8],importance_samples=3]"],
                "training": {"kl_weight": WARM_UP},
            },
            "a multi-sample bound has no KL to be weighted",
        ),
        (
            {"estimators": ["concrete[kl=concrete]"], "problems": [BITS], "training": {"kl_weight": 0.5}},
            "'concrete' uses the densities of q and prior, and the KL has a weight",
        ),
        ({"training": {"temperature": COOLING}}, "no estimator has such a temperature; take one of .*gumbel-softmax"),
        (
            {"estimators": ["concrete[temperature=0.2]"], "problems": [BITS], "training": {"temperature": COOLING}},
            "sets its temperature, and training.temperature is a schedule of it; drop one",
        ),
    ],
)
def test_what_cannot_follow_a_schedule_is_refused_before_anything_is_run(tiny, tmp_path, changes, complaint):
    training = {**tiny["training"], **changes.pop("training")}
    with pytest.raises(EstbenchError, match=complaint):
        estbench.run({**tiny, **changes, "training": training}, out=tmp_path / "r")
    assert not list((tmp_path / "r").glob("cells/*"))


def test_a_shared_probe_has_the_weight_and_the_temperature_of_its_step(train_cell):
    """Also at a checkpoint that another cell wrote, which is loaded and not trained."""
    changes = {"problems": [BITS], "probe__replicates": 5, "probe__shared": "concrete", **CHANGES}
    alone = train_cell("concrete", name="alone", **changes)
    train_cell("disarm", **changes)  # writes the checkpoints
    assert train_cell("concrete", **changes).bits == alone.bits
    shared = alone.gradients[alone.gradients["trajectory"] == "shared"]
    own = alone.gradients[alone.gradients["trajectory"] == "own"]
    columns = ["step", "space", "group", "statistic"]
    both = shared.merge(own, on=columns, suffixes=("_shared", "_own"))
    assert len(both) == len(own)
    # The neutral run is that of the cell itself, so that the two probes are one and the same.
    assert (both["value_shared"] == both["value_own"]).all()
