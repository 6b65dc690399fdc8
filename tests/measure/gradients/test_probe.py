"""The probe against closed forms and against a plain twin, and that probing changes nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.measure import Moments, probe
from estbench.measure.gradients import probe as probe_module
from estbench.measure.gradients.loop import accumulate_params
from estbench.measure.gradients.moments import chunk_sizes, table_rows

VARIANTS = (
    "reparam",
    "stl",
    "detached",
    "reinforce",
    "reinforce[baseline=ema]",
    "reinforce[baseline=nvil,hidden=5]",
    "rloo",
)


def prepared(variant, problem, batch, steps=2):
    torch.manual_seed(0)
    estimator = estimators.create(variant)
    with torch.no_grad():
        estimator.prepare(problem(batch))
    for _ in range(steps):
        estimator(problem(batch))
    return estimator


def small_vae():
    torch.manual_seed(1)
    problem = problems.create("vae[dataset=digits,latent_size=2,hidden=[6]]").double()
    intensities = torch.from_numpy(problem.data.train[:5])
    return problem, problem.observe(intensities, torch.Generator().manual_seed(2)).double()


def rows_of(moments, space):
    return {(row["group"], row["statistic"]): row for row in moments.rows if row["space"] == space}


def params_alone(problem, estimator, batch, replicates, seed):
    """Moments in parameter space: weight space takes a backward call per replicate where the fast path is closed."""
    accumulators = {}
    chunks = chunk_sizes(replicates, probe_module.largest_chunk(problem, estimator, batch, replicates))
    accumulate_params(problem, estimator.eval(), batch, chunks, seed, accumulators)
    return Moments(
        tuple(table_rows("params", ((name, accumulator) for (_, name), accumulator in accumulators.items())))
    )


# --- against closed forms -----------------------------------------------------------------------------------------


@torch.no_grad()
def moments_per_example(problem, batch, variant):
    """Mean and variance of one draw of each example's own gradient, loc and log_scale: (2, B) each.

    f = -(x - z)^2 / 2 and an analytic KL, which adds to the mean alone. With d = m - x, per unit of loc: pathwise
    -s eps - d; score function (-1/2)^2 times the closed form of (z - x)^2. Per unit of log_scale: s times that of s.
    """
    params = problem.encode(batch)
    m, s = params["loc"].squeeze(-1), params["log_scale"].exp().squeeze(-1)
    d = m - batch.squeeze(-1)
    means = torch.stack([-d - m, -s.square() - (s.square() - 1)])
    variances = {
        "reparam": (s**2, s**2 * (d**2 + 2 * s**2)),
        "reinforce": (
            (d**4 / s**2 + 14 * d**2 + 15 * s**2) / 4,
            s**2 * (2 * d**4 / s**2 + 60 * d**2 + 74 * s**2) / 4,
        ),
    }[variant]
    return means, torch.stack(variances)


@pytest.mark.parametrize("variant", ["reparam", "reinforce"])
def test_moments_in_parameter_space_are_the_closed_forms(variant, linear_gaussian, batch, largest_z):
    """R = 20,000; the interval's own width tells the error: value within its z bound of the closed form."""
    problem = linear_gaussian()
    moments = params_alone(problem, prepared(variant, problem, batch), batch, 20_000, 5)
    means, variances = moments_per_example(problem, batch, variant)
    allowed = largest_z(8) / 1.96
    for index, name in enumerate(("loc", "log_scale")):
        # Row b of the gradient of the minibatch mean is 1/B times example b's own.
        check(moments, ("params", name, "variance"), variances[index].sum() / len(batch) ** 2, allowed, log=True)
        check(moments, ("params", name, "mean_norm2"), means[index].square().sum() / len(batch) ** 2, allowed)
        snr = math.sqrt(means[index].square().sum() / variances[index].sum())
        check(moments, ("params", name, "snr"), snr, allowed)


def check(moments, where, expected, allowed, *, log=False):
    """The measured value is within ``allowed`` half-widths of its interval from what it should be."""
    row = next(row for row in moments.rows if (row["space"], row["group"], row["statistic"]) == where)
    value, low, high, expected = row["value"], row["low"], row["high"], float(expected)
    if log:
        value, low, high, expected = (math.log(number) for number in (value, low, high, expected))
    assert abs(value - expected) < allowed * (high - low) / 2, where
    assert low < value < high


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("variant", ["reparam", "reinforce"])
def test_moments_in_weight_space_are_the_closed_forms(variant, linear_gaussian, batch, largest_z):
    """loc = w x + b gives w the weight x_b and b the weight 1; s is the same number for all. R = 2,000."""
    problem = linear_gaussian()
    moments = probe(problem, prepared(variant, problem, batch), batch, replicates=2000, seed=6)
    means, variances = moments_per_example(problem, batch, variant)
    x = batch.squeeze(-1)
    variance = ((x**2 + 1) * variances[0] + variances[1]).sum() / len(batch) ** 2
    mean = torch.stack([(x * means[0]).mean(), means[0].mean(), means[1].mean()])
    allowed = largest_z(4) / 1.96
    check(moments, ("weights", "encoder", "variance"), variance, allowed, log=True)
    check(moments, ("weights", "encoder", "mean_norm2"), mean @ mean, allowed)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "detached"])
def test_the_share_of_the_minibatch_is_the_spread_of_the_exact_gradients(variant, linear_gaussian, batch, largest_z):
    """Against 1/B times the variance, over the six examples, of the exact gradient of each.

    With these examples fixed, the estimate's error comes from the replicates' noise in the six means, v_b / R each:
    4 sum_b c_b^2 v_b / R, to first order, for the sum of squares of the centred means c_b. R = 20,000.
    """
    problem = linear_gaussian()
    estimator = prepared(variant, problem, batch)
    table = rows_of(params_alone(problem, estimator, batch, 20_000, 7), "params")
    means, _ = moments_per_example(problem, batch, "reparam")
    params = {
        name: value.detach().expand(20_000, *value.shape).clone().requires_grad_()
        for name, value in problem.encode(batch).items()
    }
    torch.manual_seed(1)
    (own,) = torch.autograd.grad(estimator(problem.objective(params, batch)).sum(), [params["loc"]])
    # Only loc: the mean gradient of log_scale is the same for all examples here.
    count, mean, own = len(batch), means[0], own.squeeze(-1)
    expected = float(mean.var()) / count
    error = (4 * ((mean - mean.mean()).square() * own.var(0)).sum() / 20_000).sqrt() / (count - 1) / count
    assert abs(table["loc", "data_variance"]["value"] - expected) < largest_z(6) * float(error)
    assert largest_z(6) * float(error) < 0.15 * expected  # a share that is off by 15 % would show


# --- against a plain twin -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loop_path_is_a_loop_of_backward_calls(variant):
    problem, batch = small_vae()
    estimator = prepared(variant, problem, batch)
    moments = probe(problem, estimator, batch, replicates=6, seed=8, path="loop")
    assert (moments.path, moments.reason) == ("loop", "asked for")
    estimator.eval()
    collected = {group: [] for group in problem.groups()}
    torch.manual_seed(8)
    for _ in range(6):
        problem.zero_grad()
        estimator(problem(batch)).mean().backward()
        for group, weights in problem.groups().items():
            collected[group].append(np.concatenate([weight.grad.numpy().ravel() for weight in weights]))
    for group, gradients in collected.items():
        pairs = np.stack(gradients).reshape(3, 2, -1)  # chunks of two, each a batch of its own
        noise = np.sum((pairs[:, 0] - pairs[:, 1]) ** 2, 1) / 2
        mean = pairs.mean((0, 1))
        if variant == "detached" and group == "encoder":
            assert moments.value("weights", group, "variance") == 0
            continue
        assert moments.value("weights", group, "variance") == pytest.approx(noise.mean(), rel=1e-10)
        expected = mean @ mean - noise.mean() / 6
        assert moments.value("weights", group, "mean_norm2") == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("path", ["auto", "loop"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_space_is_the_estimator_on_replicated_parameters(variant, path):
    """Six replicates in chunks of two, drawn one after the other."""
    problem, batch = small_vae()
    estimator = prepared(variant, problem, batch)
    table = rows_of(probe(problem, estimator, batch, replicates=6, seed=8, path=path), "params")
    encoded = {name: value.detach() for name, value in problem.encode(batch).items()}
    torch.manual_seed(8)
    drawn = {name: [] for name in encoded}
    for _ in range(3):
        params = {name: value.expand(2, -1, -1).clone().requires_grad_() for name, value in encoded.items()}
        (estimator.eval()(problem.objective(params, batch)).sum() / len(batch)).backward()
        for name, value in params.items():
            drawn[name].append(value.grad.flatten(1).numpy())
    for name, pairs in drawn.items():
        noise = np.array([np.sum((first - second) ** 2) / 2 for first, second in pairs])
        mean = np.concatenate(pairs).mean(0)
        assert table[name, "variance"]["value"] == pytest.approx(noise.mean(), rel=1e-10)
        assert table[name, "mean_norm2"]["value"] == pytest.approx(mean @ mean - noise.mean() / 6, rel=1e-10)
        assert table[name, "variance"]["replicates"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 12, 29])
def test_chunks_of_replicates_have_the_same_law_as_all_at_once(rows, monkeypatch, linear_gaussian, batch, largest_z):
    """Chunks of 2, 2 and 4 replicates of 6 examples: 1,501 of them against the closed form."""
    problem = linear_gaussian()
    estimator = prepared("reparam", problem, batch)
    sizes = []
    count = problem.objective

    def counted(params, x):
        sizes.append(len(params["loc"]) // len(batch))
        return count(params, x)

    monkeypatch.setattr(probe_module, "ROWS", rows)
    monkeypatch.setattr(problem, "objective", counted)
    moments = params_alone(problem, estimator, batch, 1501, 10)
    chunks = sizes[1:]  # the first is a look at the cost of one example
    assert sum(chunks) == 1501
    assert max(chunks) <= max(3, rows // len(batch))
    means, variances = moments_per_example(problem, batch, "reparam")
    for index, name in enumerate(("loc", "log_scale")):
        check(moments, ("params", name, "variance"), variances[index].sum() / 36, largest_z(6) / 1.96, log=True)
        check(moments, ("params", name, "mean_norm2"), means[index].square().sum() / 36, largest_z(6) / 1.96)


@pytest.mark.slow
def test_replicates_are_independent(linear_gaussian, batch, largest_z):
    """Successive squared differences do not correlate: lag-one autocorrelation of 1,500 of them, in both spaces."""
    problem = linear_gaussian()
    accumulators = probe_module.collect(problem, prepared("reparam", problem, batch), batch, 3000, 11).accumulators
    noises = [accumulator.deviations for place, accumulator in accumulators.items() if place != ("weights", "unused")]
    for noise in noises:
        centred = noise - noise.mean()
        lagged = (centred[1:] * centred[:-1]).mean() / (centred**2).mean()
        assert abs(lagged) * math.sqrt(1500) < largest_z(len(noises))


# --- probing changes nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_probing_leaves_everything_as_it_was(variant, training):
    problem, batch = small_vae()
    estimator = prepared(variant, problem, batch).train(training)
    estimator(problem(batch)).sum().backward()
    kept = [*problem.parameters(), *estimator.parameters(), *estimator.buffers(), batch]
    before = [tensor.detach().clone() for tensor in kept]
    gradients = [None if tensor.grad is None else tensor.grad.clone() for tensor in kept]
    torch.manual_seed(12)
    state = torch.get_rng_state()
    probe(problem, estimator, batch, replicates=4, seed=13)
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, before, kept))
    for gradient, tensor in zip(gradients, kept, strict=True):
        assert (gradient is None) == (tensor.grad is None)
        assert gradient is None or torch.equal(gradient, tensor.grad)
    assert estimator.training == training
    assert all(module.training == training for module in estimator.modules())
    assert problem.training


def test_probing_leaves_everything_as_it_was_after_an_error(monkeypatch):
    problem, batch = small_vae()
    estimator = prepared("reinforce[baseline=ema]", problem, batch)
    monkeypatch.setattr(problem, "encode", lambda _: 1 / 0)
    torch.manual_seed(12)
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        probe(problem, estimator, batch, replicates=4, seed=13)
    assert estimator.training
    assert torch.equal(state, torch.get_rng_state())


def test_the_draws_depend_on_the_seed_alone():
    problem, batch = small_vae()
    estimator = prepared("reinforce", problem, batch)
    first = probe(problem, estimator, batch, replicates=4, seed=14)
    torch.manual_seed(99)
    assert probe(problem, estimator, batch, replicates=4, seed=14) == first
    assert probe(problem, estimator, batch, replicates=4, seed=15) != first


# --- what is reported ---------------------------------------------------------------------------------------------


def test_every_group_and_parameter_is_reported_once():
    problem, batch = small_vae()
    moments = probe(problem, prepared("reparam", problem, batch), batch, replicates=4)
    found = [(row["space"], row["group"], row["statistic"]) for row in moments.rows]
    plain = ("variance", "mean_norm2", "snr")
    expected = [("params", name, s) for name in ("loc", "log_scale") for s in (*plain, "data_variance")]
    expected += [("weights", group, s) for group in ("encoder", "decoder") for s in (*plain, "data_variance")]
    assert found == expected
    assert {row["replicates"] for row in moments.rows} == {4}
    # Nothing but plain numbers: checkpoints hold these rows, and are read with weights_only.
    assert {type(row[name]) for row in moments.rows for name in ("value", "low", "high")} == {float}


def test_a_group_that_nothing_depends_on_has_a_gradient_of_zero(linear_gaussian, batch):
    problem = linear_gaussian()
    moments = probe(problem, prepared("reparam", problem, batch), batch, replicates=4)
    assert moments.value("weights", "unused", "variance") == 0
    assert moments.value("weights", "unused", "mean_norm2") == 0
    assert math.isnan(moments.value("weights", "unused", "snr"))


def test_an_encoder_that_gets_no_gradient_has_none(linear_gaussian, batch):
    """``detached`` with nothing but a likelihood: the surrogate does not depend on the encoder at all."""
    problem = linear_gaussian()
    original = problem.objective

    def without_kl(params, x):
        objective = original(params, x)
        objective._kl = lambda: torch.zeros(objective.batch_shape).double()
        return objective

    problem.objective = without_kl
    moments = probe(problem, prepared("detached", problem, batch), batch, replicates=4)
    for where in (("weights", "encoder"), ("params", "loc"), ("params", "log_scale")):
        assert moments.value(*where, "variance") == 0
        assert moments.value(*where, "mean_norm2") == 0
    assert moments.value("weights", "decoder", "variance") > 0


def test_two_examples_are_too_few_for_an_interval_of_the_data_s_share(linear_gaussian, batch):
    problem = linear_gaussian()
    moments = probe(problem, prepared("reparam", problem, batch), batch[:2], replicates=4)
    assert "data_variance" not in {row["statistic"] for row in moments.rows}


@pytest.mark.parametrize("replicates", [-1, 0, 2])
def test_too_few_replicates_are_an_error_that_says_how_many(linear_gaussian, batch, replicates):
    problem = linear_gaussian()
    with pytest.raises(EstbenchError, match=f"at least 3 replicates for an interval, got {replicates}"):
        probe(problem, prepared("reparam", problem, batch), batch, replicates=replicates)


@pytest.mark.parametrize("path", ["auto", "loop"])
def test_layers_split_the_groups(path):
    """The variances of a group's layers add up to its own; so do the squared norms and the data's share."""
    problem, batch = small_vae()
    estimator = prepared("reparam", problem, batch)
    whole = probe(problem, estimator, batch, replicates=8, path=path)
    split = probe(problem, estimator, batch, replicates=8, layers=True, path=path)
    assert split.path == {"auto": "fast", "loop": "loop"}[path]
    assert {row["group"] for row in split.rows if row["space"] == "weights"} == {
        f"{group}.{layer}" for group in ("encoder", "decoder") for layer in (0, 1)
    }
    for group in ("encoder", "decoder"):
        for statistic in ("variance", "mean_norm2", "data_variance"):
            parts = sum(split.value("weights", f"{group}.{layer}", statistic) for layer in (0, 1))
            assert parts == pytest.approx(whole.value("weights", group, statistic), rel=1e-9)


def test_heavy_tails_are_warned_of(linear_gaussian, batch):
    """One example, one coordinate, plain REINFORCE: a few draws are nearly all of its noise."""
    problem = linear_gaussian()
    light = probe(problem, prepared("reparam", problem, batch), batch, replicates=60)
    assert light.warnings == ()
    estimator = prepared("reinforce", problem, batch[:1])
    heavy = [probe(problem, estimator, batch[:1], replicates=60, seed=seed).warnings for seed in range(5)]
    assert any("heavy tails; 60 replicates count as" in warning for warnings in heavy for warning in warnings)


def test_too_few_replicates_for_an_interval_are_told_with_the_number_to_take(linear_gaussian, batch):
    """One example and 20 replicates are ten independent numbers: too few for an interval, and the probe says so."""
    problem = linear_gaussian()
    few = probe(problem, prepared("reparam", problem, batch[:1]), batch[:1], replicates=20)
    row = rows_of(few, "params")["loc", "variance"]
    assert row["value"] > 0
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])
    assert any("too few" in warning and "take 50 or more" in warning for warning in few.warnings)
    enough = probe(problem, prepared("reparam", problem, batch[:1]), batch[:1], replicates=50)
    assert not math.isnan(rows_of(enough, "params")["loc", "variance"]["low"])
