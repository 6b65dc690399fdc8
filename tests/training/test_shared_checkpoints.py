"""The shared trajectory is one run's, whoever computes it, and leaves every cell's own training as it is."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from estbench import estimators
from estbench.errors import EstbenchError
from estbench.execution import plan_of
from estbench.experiment.spec import experiment_from
from estbench.measure import probe
from estbench.store import Status
from estbench.training import State, check_probe, measuring
from estbench.training.batches import evaluation_batch
from estbench.training.shared_checkpoints import adapted, neutral_cell

SHARED = {"probe__shared": "reparam", "probe__tracking_steps": 3}
LEARNED = "reinforce[baseline=nvil,hidden=5]"


def on(trained, trajectory):
    frame = trained.gradients
    return frame[frame["trajectory"] == trajectory].drop(columns="trajectory").reset_index(drop=True)


def test_the_neutral_estimator_is_measured_where_it_is_anyway(train_cell):
    """Its own trajectory is the shared one, to the last bit."""
    trained = train_cell(**SHARED)
    pd.testing.assert_frame_equal(on(trained, "own"), on(trained, "shared"), check_exact=True)
    assert set(on(trained, "shared")["step"]) == {1, 30}


def test_others_are_measured_at_the_neutral_run_s_weights(train_cell, make_cell, tmp_path):
    trained = train_cell(LEARNED, **SHARED)
    neutral = neutral_cell(make_cell(LEARNED, **SHARED))
    assert neutral.estimator.label == "reparam"
    files = {path.name for path in (tmp_path / "results" / "trajectories" / neutral.key[:16]).iterdir()}
    assert files == {"1.pt", "30.pt"}
    # Only the decoder's gradient is the same for both estimators on the same draws: normal noise is consumed alike.
    twin = train_cell(**SHARED, name="twin")
    ours, theirs = (
        each.set_index(["step", "space", "group", "statistic"])["value"].sort_index()
        for each in (on(trained, "shared"), on(twin, "shared"))
    )
    for step in (1, 30):
        place = (step, "weights", "decoder", "variance")
        assert ours[place] == pytest.approx(theirs[place], rel=1e-5)
        encoder = (step, "weights", "encoder", "variance")
        assert ours[encoder] > theirs[encoder]


@pytest.mark.parametrize("variant", ["rloo", LEARNED])
def test_it_leaves_training_bit_identical(train_cell, variant):
    plain = train_cell(variant, name="plain")
    with_shared = train_cell(variant, name="shared", **SHARED)
    prints = [each.record["fingerprints"] for each in (plain, with_shared)]
    assert prints[0] == prints[1]
    pd.testing.assert_frame_equal(on(plain, "own"), on(with_shared, "own"), check_exact=True)


def test_checkpoints_that_are_there_are_used_and_damaged_ones_made_anew(train_cell, tmp_path, monkeypatch):
    first = train_cell("rloo", **SHARED)
    (folder,) = (tmp_path / "results" / "trajectories").iterdir()
    before = (folder / "1.pt").read_bytes()
    steps = []
    from estbench.training import shared_checkpoints

    class Counting(shared_checkpoints.Watch):
        def take_steps(self, count, pause):
            steps.append(count)
            super().take_steps(count, pause)

    monkeypatch.setattr(shared_checkpoints, "Watch", Counting)
    again = train_cell("reinforce", **SHARED)
    assert steps == []
    assert again.outcome.status is Status.DONE
    (folder / "30.pt").write_bytes(b"not a checkpoint")
    once_more = train_cell("rloo", **SHARED)
    assert steps == [29]
    assert once_more.bits == first.bits
    assert (folder / "1.pt").read_bytes() == before


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("looks", [1, 2, 3, 12])
def test_an_interruption_goes_on_to_the_same_bits(train_cell, stop_at, looks):
    whole = train_cell(LEARNED, name="whole", **SHARED)
    stopped = train_cell(LEARNED, name="stopped", options={"interrupted": stop_at(looks)}, **SHARED)
    assert stopped.outcome.status is Status.INTERRUPTED
    done = train_cell(LEARNED, name="stopped", **SHARED)
    assert done.outcome.status is Status.DONE
    assert done.bits == whole.bits


def test_learned_parts_learn_at_weights_that_stand_still(make_state):
    state = make_state(LEARNED)
    problem = state.problem
    before = [weight.detach().clone() for weight in problem.parameters()]

    def after(steps):
        torch.manual_seed(0)
        return adapted(
            State(state.cell, torch.device("cpu")).estimator,
            problem,
            steps=steps,
            batch_size=16,
            learning_rate=0.01,
            seed=1,
        )

    assert float(after(0).baseline.average.weight) == 0
    learned = after(5)
    assert float(learned.baseline.average.weight) == pytest.approx(1 - 0.9**5)
    assert not torch.equal(learned.baseline.network[0].weight, after(0).baseline.network[0].weight)
    assert all(map(torch.equal, before, problem.parameters()))
    assert all(weight.grad is None for weight in problem.parameters())


def test_bias_along_training_is_measured_against_a_reference(train_cell):
    trained = train_cell("detached", probe__reference="reparam", probe__reference_replicates=50, probe__replicates=20)
    found = trained.gradients[trained.gradients["statistic"] == "bias2"]
    assert set(found["step"]) == {1, 30}
    assert (found.loc[found["group"] == "encoder", "low"] > 0).all()


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"shared": "reparm"}, "unknown estimator 'reparm'"),
        ({"reference": "reparm"}, "unknown estimator 'reparm'"),
        ({"reference": "detached"}, "'detached' is biased itself"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(tiny, setting, complaint):
    tiny["probe"] |= setting
    with pytest.raises(EstbenchError, match=complaint):
        plan_of(experiment_from(tiny))


def test_an_estimator_that_does_not_support_the_problem_cannot_be_neutral(make_cell):
    bits = "vae[dataset=digits,latents=bernoulli,latent_size=2,hidden=[]]"
    cell = make_cell("rloo", problems=[bits], probe__shared="stl")
    with pytest.raises(EstbenchError, match="requires a differentiable sample"):
        check_probe(cell)


def test_common_random_numbers_are_the_same_draws(make_state):
    """Two estimators that consume noise alike see the same draws: their decoder gradients are equal."""
    state = make_state()
    batch = evaluation_batch(state.problem, "train", 12, 0)
    found = [
        probe(state.problem, estimators.create(name), batch, 10, seed=4).value("weights", "decoder", "variance")
        for name in ("reparam", "reinforce")
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_the_reference_at_a_shared_checkpoint_is_computed_once_for_all_estimators(train_cell, monkeypatch):
    computed = []
    reference_of = measuring.reference_of

    def counted(*given, **options):
        computed.append(given[0])
        return reference_of(*given, **options)

    asked = {**SHARED, "probe__reference": "reparam", "probe__reference_replicates": 50, "probe__replicates": 20}
    monkeypatch.setattr(measuring, "reference_of", counted)
    monkeypatch.setattr(measuring, "_recent", {})
    first = train_cell("rloo", name="first", **asked)
    assert len(computed) == 4  # at two checkpoints of its own, and at two shared ones
    train_cell("stl", name="second", **asked)
    assert len(computed) == 6
    monkeypatch.setattr(measuring, "_recent", {})
    alone = train_cell("rloo", name="alone", **asked)
    pd.testing.assert_frame_equal(first.gradients, alone.gradients, check_exact=True)


def test_few_references_are_kept(monkeypatch, make_cell):
    kept = {(each,): each for each in range(measuring.MOST_RECENT)}
    monkeypatch.setattr(measuring, "_recent", kept)
    monkeypatch.setattr(measuring, "reference_of", lambda *_given: "new")
    state = State(make_cell(probe__reference="reparam"), torch.device("cpu"))
    batch = evaluation_batch(state.problem, "train", 4, seed=0)
    assert measuring._reference(state, state.problem, batch, 1, shared=True) == "new"
    assert len(kept) == measuring.MOST_RECENT
    assert (0,) not in kept
