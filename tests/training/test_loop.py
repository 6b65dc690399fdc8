"""The training loop: where it measures, what its clocks hold, and what a broken estimator leaves behind."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from estbench.plugins import load_plugin
from estbench.randomness import seeded
from estbench.store import Status
from estbench.training import State, start_run, take_steps
from estbench.training.measuring import evaluation_steps, probe_steps
from estbench.training.state import fingerprint, noise_seed

CPU = torch.device("cpu")
BREAKS = """
import torch
from estbench.estimators import Estimator, register


@register("breaks")
class Breaks(Estimator):
    summary = "reparam until step 7, where it breaks"
    supports = {{"normal"}}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1

    def __init__(self, options=None):
        super().__init__(options)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, objective):
        surrogate = objective.f(objective.q.rsample((1,))).mean(0) - objective.kl()
        self.calls += self.training
        if self.training and self.calls == 7:
            {how}
        return surrogate
"""
NAN = "surrogate = surrogate * float('nan')"
INFINITE = "surrogate = surrogate + float('inf')"
NAN_GRADIENT = "surrogate = surrogate + (0 * objective.params['loc']).sum(-1).sqrt()"
RAISES = "raise ValueError('broken [on] purpose')"
MISSING_FILE = "open('/no/such/file')"


@pytest.mark.parametrize(
    ("last", "every", "steps"),
    [(30, 10, {0, 10, 20, 30}), (30, 7, {0, 7, 14, 21, 28, 30}), (30, 100, {0, 30}), (1, 1, {0, 1})],
)
def test_bounds_are_computed_first_last_and_every_so_often(make_state, last, every, steps):
    assert evaluation_steps(make_state(training__steps=last, evaluation__every=every)) == steps


@pytest.mark.parametrize(
    ("last", "points", "steps"),
    [(30, 1, {30}), (30, 2, {1, 30}), (10_000, 5, {1, 10, 100, 1000, 10_000}), (1, 5, {1}), (3, 50, {1, 2, 3})],
)
def test_probes_are_spread_over_the_orders_of_magnitude(make_state, last, points, steps):
    assert probe_steps(make_state(training__steps=last, probe__points=points)) == steps
    assert probe_steps(make_state(training__steps=last, probe__points=points, probe__replicates=0)) == set()


def test_a_record_holds_every_measurement(train_cell):
    trained = train_cell("rloo[num_samples=3]", evaluation__final_num_samples=4)
    assert trained.outcome.status is Status.DONE
    curves, record = trained.curves, trained.record
    for place, rows in curves.query("metric in ['elbo', 'iwae']").groupby(["split", "metric"]):
        assert rows["step"].tolist() == [0, 10, 20, 30], place
    assert set(curves["split"]) == {"train", "validation", "test"}
    assert curves.query("metric == 'gradient_norm'")["step"].tolist() == [10, 20, 30]
    assert curves.query("metric == 'iwae_final'")["split"].tolist() == ["validation", "test"]
    assert (curves["examples"] == curves["step"] * 16).all()
    assert (curves["evaluations"] == curves["step"] * 16 * 3).all()
    assert sorted(trained.gradients["step"].unique()) == [1, 30]
    assert set(trained.gradients["trajectory"]) == {"own"}
    assert (record["step"], record["examples"], record["evaluations"]) == (30, 480, 1440)
    assert record["facts"]["evaluations"] == 3
    assert record["parameters"]["encoder"] == 64 * 8 + 8 + 8 * 4 + 4
    assert record["environment"]["torch"]
    assert record["error"] is None


def test_every_clock_holds_its_own_work_alone(train_cell, monkeypatch):
    """Time passes in three places only: a second a step, 100 a bound, 10,000 a probe."""
    from estbench.measure import timing
    from estbench.training import loop, measuring

    now = [0.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def slow(module, name, seconds):
        original = getattr(module, name)

        def function(*arguments, **options):
            now[0] += seconds(*arguments)
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, function)

    slow(loop, "take_steps", lambda _state, steps, _pause: steps)
    slow(measuring, "evaluate_elbo", lambda *_: 100)
    slow(measuring, "record_moments", lambda *_: 10_000)
    trained = train_cell()
    assert trained.record["clocks"] == {"training": 30, "evaluation": 4 * 3 * 100, "probe": 20_000, "writing": 0}
    assert (trained.curves["seconds"] == trained.curves["step"]).all()


@pytest.mark.parametrize(("how", "step"), [(NAN, 7), (INFINITE, 7), (NAN_GRADIENT, 7)])
def test_what_is_not_finite_is_diverged_at_that_step(train_cell, plugin, how, step):
    load_plugin(plugin("breaks.py", BREAKS.format(how=how)))
    trained = train_cell("breaks")
    assert trained.outcome.status is Status.DIVERGED
    assert trained.outcome.reason.endswith(f"not finite at step {step}")
    assert trained.record["status"] == "diverged"
    assert trained.record["stop_reason"] == trained.outcome.reason
    assert trained.curves["value"].notna().all()
    assert trained.curves["step"].unique().tolist() == [0]


@pytest.mark.parametrize(("how", "kind"), [(RAISES, "ValueError"), (MISSING_FILE, "FileNotFoundError")])
def test_an_estimator_that_raises_has_failed_and_says_where(train_cell, plugin, how, kind):
    load_plugin(plugin("breaks.py", BREAKS.format(how=how)))
    trained = train_cell("breaks")
    assert trained.outcome.status is Status.FAILED
    assert trained.record["error"]["type"] == kind
    assert "breaks.py" in trained.record["error"]["traceback"]
    assert kind in trained.record["stop_reason"]


@pytest.mark.parametrize("returned", ["None", "3.0", "surrogate.detach()", "surrogate[:0, None] + 'x'"])
def test_an_estimator_that_returns_something_else_has_failed(train_cell, plugin, returned):
    load_plugin(plugin("breaks.py", BREAKS.format(how=f"return {returned}")))
    assert train_cell("breaks").outcome.status is Status.FAILED


def test_a_learned_baseline_trains_by_an_optimiser_of_its_own(make_state):
    state = make_state("reinforce[baseline=nvil]", training__estimator_learning_rate=0.5)
    model, baseline = state.optimizers
    held = [{id(p) for group in optimizer.param_groups for p in group["params"]} for optimizer in (model, baseline)]
    assert held == [{id(p) for p in module.parameters()} for module in (state.problem, state.estimator)]
    assert held[1]
    assert not held[0] & held[1]
    assert [optimizer.param_groups[0]["lr"] for optimizer in (model, baseline)] == [1e-3, 0.5]
    before = [p.clone() for p in state.estimator.parameters()]
    take_steps(state, 3)
    assert all(not torch.equal(old, new) for old, new in zip(before, state.estimator.parameters(), strict=True))


def test_an_estimator_without_parameters_has_no_optimiser(make_state):
    assert len(make_state("reinforce[baseline=ema]").optimizers) == 1


def test_training_makes_the_bound_better(train_cell):
    curves = train_cell(training__steps=200, training__learning_rate=1e-2).curves
    elbo = curves.query("split == 'test' and metric == 'elbo'")["value"]
    assert elbo.iloc[-1] > elbo.iloc[0] + 5


def test_a_run_that_is_stepped_by_hand_has_the_weights_of_a_trained_one(make_cell, train_cell):
    before = torch.get_rng_state()
    with start_run(make_cell()) as run:
        take_steps(run, run.cell.training.steps)
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint(run.problem) == train_cell().record["fingerprints"]["final_weights"]


def plain_ascent(cell, steps):
    """SGD by hand: the weights after so many steps, at learning rates along a quarter of a cosine."""
    state = State(cell, CPU)
    weights = list(state.problem.parameters())
    with seeded(noise_seed(cell), CPU):
        for step in range(steps):
            surrogate = state.estimator(state.problem(next(state.batches))).mean()
            gradients = torch.autograd.grad(surrogate, weights)
            rate = cell.training.learning_rate * math.cos(math.pi / 2 * step / cell.training.steps)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.add_(rate * gradient)
    return weights


def test_sgd_with_a_cosine_schedule_is_what_it_says(make_cell):
    cell = make_cell(training__steps=6, training__optimizer="sgd", training__schedule="cosine")
    with seeded(noise_seed(cell), CPU):
        state = State(cell, CPU)
        take_steps(state, 4)
    for found, expected in zip(state.problem.parameters(), plain_ascent(cell, 4), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_the_usual_way_of_training_is_no_part_of_a_key(make_cell):
    assert make_cell(training__optimizer="adam", training__schedule="constant").key == make_cell().key
    assert make_cell(training__optimizer="sgd").key != make_cell().key
    assert make_cell(training__schedule="cosine").key != make_cell().key


DIVERGES = {
    "nan": NAN,
    "infinite": INFINITE,
    "gradient": NAN_GRADIENT,
    "raises on nan": "surrogate = surrogate * float('nan'); raise ValueError('no sample')",
    "estimator's buffer": "self.average.fill_(float('nan'))",
    "estimator's weights": "surrogate = surrogate + self.own.sqrt()",
}


@pytest.mark.slow_after(8)
@pytest.mark.parametrize("every", [4, 7, 10, 1000])
@pytest.mark.parametrize("how", DIVERGES)
def test_the_step_of_divergence_does_not_depend_on_when_one_looks(train_cell, plugin, how, every):
    text = BREAKS.format(how=DIVERGES[how]).replace(
        '        self.register_buffer("calls"',
        '        self.register_buffer("average", torch.zeros(()))\n'
        '        self.own = torch.nn.Parameter(torch.zeros(()))\n        self.register_buffer("calls"',
    )
    load_plugin(plugin("breaks.py", text))
    trained = train_cell("breaks", evaluation__every=every, probe__replicates=0)
    assert trained.outcome.status is Status.DIVERGED
    assert "at step 7" in trained.outcome.reason
    record = trained.record
    assert (record["step"], record["examples"]) == (7, 7 * 16)
    assert record["evaluations"] in {6 * 16, 7 * 16}  # a step that raises has counted nothing


@pytest.mark.parametrize("returned", ["surrogate.sum()", "surrogate[None]", "surrogate[:3]", "surrogate[:, None]"])
def test_a_surrogate_of_another_shape_is_refused_with_both_shapes(train_cell, plugin, returned):
    load_plugin(plugin("breaks.py", BREAKS.format(how=f"return {returned}")))
    trained = train_cell("breaks", probe__replicates=0)
    assert trained.outcome.status is Status.FAILED
    assert "(16,)" in trained.outcome.reason
    assert "shape" in trained.outcome.reason


MEASURED = """
from estbench.problems.problem import register
from estbench.problems.vae import VAE


@register("unmeasured")
class Unmeasured(VAE):
    def encode(self, x):
        if not self.training and {when}:
            raise RuntimeError("cannot be measured")
        return super().encode(x)
"""


@pytest.mark.parametrize("measurement", ["train bounds", "validation bounds", "test bounds"])
def test_what_cannot_be_measured_is_a_remark_and_training_goes_on(train_cell, plugin, measurement):
    load_plugin(plugin("unmeasured.py", MEASURED.format(when="len(x) == 20")))
    trained = train_cell(problems=["unmeasured[dataset=digits,hidden=[8],latent_size=2]"], evaluation__every=15)
    assert trained.outcome.status is Status.DONE
    (remark,) = [row for row in trained.record["remarks"] if row["measurement"] == measurement]
    assert remark["step"] == 0
    assert "cannot be measured" in remark["message"]
    assert trained.curves.query("metric == 'elbo'").empty
    assert not trained.gradients.empty
    assert any("cannot be measured" in line for line in trained.outcome.remarks)


MOVES = """
import torch

from estbench.problems.problem import register
from estbench.problems.vae import VAE


@register("statistics")
class Statistics(VAE):
    summary = "VAE whose running statistics break, and no weight"

    def __init__(self, options=None):
        super().__init__(options)
        self.norm = torch.nn.BatchNorm1d(self.data.size, affine=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def encode(self, x):
        if self.training:
            self.calls += 1
            self.norm({value} * x if self.calls == 7 else x)
        return super().encode(x)
"""


@pytest.mark.parametrize("every", [4, 1000])
@pytest.mark.parametrize("value", ["float('nan')", "1e30"])
def test_statistics_that_are_not_finite_are_a_divergence_where_training_does_not_use_them(
    train_cell, plugin, value, every
):
    load_plugin(plugin("statistics.py", MOVES.format(value=value)))
    problems = ["statistics[dataset=digits,hidden=[8],latent_size=2]"]
    trained = train_cell(problems=problems, evaluation__every=every, probe__replicates=0)
    assert trained.outcome.status is Status.DIVERGED
    assert trained.outcome.reason.endswith("at step 7")
    assert "buffers" in trained.outcome.reason
    assert trained.curves["step"].max() < 7


def test_slow_steps_are_saved_though_no_measurement_is_due(train_cell, monkeypatch):
    """Ten seconds a step, and thirty between checkpoints: by a clock that moves with the steps."""
    from estbench.training import divergence, loop

    now, saved = [0.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(divergence, "time", clock)
    take, save = loop.surrogate_of, State.save

    def slow(*arguments):
        now[0] += 10
        return take(*arguments)

    def noting(state, path, clocks):
        saved.append((state.step, path.exists()))
        save(state, path, clocks)
        assert path.exists()

    monkeypatch.setattr(loop, "surrogate_of", slow)
    monkeypatch.setattr(State, "save", noting)
    trained = train_cell(evaluation__every=1000, probe__replicates=0, training__steps=10)
    assert trained.outcome.status is Status.DONE
    assert saved == [(3, False), (6, True), (9, True)]
