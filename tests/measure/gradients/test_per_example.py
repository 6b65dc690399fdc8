"""The fast path gives what the gradients of single examples give, wherever it is taken, and is not taken elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from estbench import estimators, problems
from estbench.estimators import check_supports
from estbench.measure import probe
from estbench.measure.gradients._linear import Factors
from estbench.measure.gradients.groups import groups_of
from estbench.measure.gradients.moments import MomentAccumulator, chunk_sizes, half_differences, summarise
from estbench.measure.gradients.probe import largest_chunk
from estbench.randomness import seeded
from estbench.variant import Variant

SMALL = "vae[dataset=digits,hidden=[6],prior=learned,latent_size=2"
PROBLEMS = (
    f"{SMALL}]",
    f"{SMALL},kl=sampled]",
    f"{SMALL},likelihood=gaussian]",
    f"{SMALL},importance_samples=3]",
    f"{SMALL},latents=bernoulli,kl=sampled]",
    f"{SMALL},latents=bernoulli,coding=signed,importance_samples=3]",
    f"{SMALL},latents=categorical,categories=3]",
    f"{SMALL},latents=categorical,categories=3,importance_samples=3]",
    "hierarchical_vae[dataset=digits,latent_size=2,hidden=[6],prior=learned,coding=signed]",
)
# Of these a few estimators; the others are slow, and meet the same latents and bounds in the other problems.
LIKE_OTHERS = {PROBLEMS[1], PROBLEMS[2], PROBLEMS[5], PROBLEMS[7]}
OFTEN = {"reparam", "stl", "rloo", "reinforce", "disarm", "dreg", "iwae", "vimco"}
EXAMPLES, REPLICATES = 4, 6


def built(variant, problem, dtype=torch.float64):
    """A small problem, a minibatch and an estimator that has seen a few steps; skip what does not go together."""
    torch.manual_seed(1)
    problem = problems.create(problem)
    cls = estimators.ESTIMATORS.get(variant.split("[")[0])
    try:
        check_supports(cls, type(problem), problem.options)
    except estimators.base.EstbenchError:
        pytest.skip("does not support the problem")
    problem = problem.to(dtype)
    intensities = torch.from_numpy(problem.data.train[:EXAMPLES])
    batch = problem.observe(intensities, torch.Generator().manual_seed(2)).to(dtype)
    estimator = estimators.create_for(variant, problem)
    with torch.no_grad():
        estimator.prepare(problem(batch))
    for _ in range(2):
        estimator(problem(batch))
    return problem, estimator, batch


def one_by_one(problem, estimator, batch, seed):
    """Every example's gradient by its own backward call, on the probe's own draws: as accumulators."""
    estimator.eval()
    groups = groups_of(problem)
    chunks = chunk_sizes(REPLICATES, largest_chunk(problem, estimator, batch, REPLICATES))
    accumulators = {
        group: MomentAccumulator(sum(w.numel() for w in weights), batch) for group, weights in groups.items()
    }
    with seeded(seed, problem.device):
        for count in chunks:
            live = problem.encode(batch)
            expanded = {name: value.expand(count, *value.shape) for name, value in live.items()}
            surrogate = estimator(problem.objective(expanded, batch))
            for group, weights in groups.items():
                found = torch.stack([gradient_of(one, weights) for one in surrogate.flatten()])
                add(accumulators[group], found.view(count, len(batch), -1))
    return accumulators


def gradient_of(value, weights):
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(weight).flatten() for weight in weights])
    found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    parts = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
    return torch.cat([part.flatten() for part in parts])


def add(accumulator, gradients):
    """The plain definitions: (n, B, P)."""
    count, examples = gradients.shape[:2]
    accumulator.next_sum.add_(gradients.mean(1).sum(0))
    accumulator.add(count, half_differences(gradients).sum(1) / examples**2)


def fits(variant, problem):
    parsed = Variant.parse(problem)
    try:
        check_supports(
            estimators.ESTIMATORS.get(variant), problems.PROBLEMS.get(parsed.name), problems.PROBLEMS.options(parsed)
        )
    except estimators.base.EstbenchError:
        return False
    return True


@pytest.mark.parametrize(
    ("variant", "problem"),
    [
        pytest.param(variant, problem, marks=[pytest.mark.slow] * (problem in LIKE_OTHERS and variant not in OFTEN))
        for variant in estimators.names()
        for problem in PROBLEMS
        if fits(variant, problem)
    ],
)
def test_every_estimator_on_every_kind_of_problem(variant, problem):
    """Under the same draws, to 1e-10 in double precision."""
    problem, estimator, batch = built(variant, problem)
    found = probe(problem, estimator, batch, REPLICATES, seed=3)
    assert (found.path, found.reason) == ("fast", "")
    for group, accumulator in one_by_one(problem, estimator, batch, 3).items():
        expected = summarise(accumulator)
        scale = float(accumulator.mean.norm()) ** 2 + expected["variance"].value
        for statistic in ("variance", "mean_norm2"):
            error = abs(found.value("weights", group, statistic) - expected[statistic].value)
            assert error <= 1e-10 * scale, (group, statistic)


@pytest.mark.parametrize("variant", ["reparam", "stl", "reinforce", "rloo[num_samples=3]"])
def test_single_precision_agrees_to_1e_4(variant):
    problem, estimator, batch = built(variant, PROBLEMS[0], torch.float32)
    found = probe(problem, estimator, batch, REPLICATES, seed=3)
    assert found.path == "fast"
    for group, accumulator in one_by_one(problem, estimator, batch, 3).items():
        if group != "prior":  # which has no noise
            expected = summarise(accumulator)["variance"].value
            assert found.value("weights", group, "variance") == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["reparam", "reinforce[baseline=ema]", "rloo"])
def test_both_paths_agree_within_their_errors(variant, largest_z):
    """2,000 replicates each, with seeds of their own; variance, mean and the data's share of both groups."""
    problem, estimator, batch = built(variant, PROBLEMS[0])
    fast = probe(problem, estimator, batch, 2000, seed=4)
    exact = probe(problem, estimator, batch, 2000, seed=5, path="loop")
    assert (fast.path, exact.path) == ("fast", "loop")
    for first, second in zip(fast.rows, exact.rows, strict=True):
        assert first["group"] == second["group"]
        if first["statistic"] not in {"variance", "mean_norm2"} or first["group"] == "prior":
            continue
        errors = [(row["high"] - row["low"]) / 2 / 1.96 for row in (first, second)]
        difference = abs(first["value"] - second["value"])
        assert difference <= largest_z(8) * (errors[0] ** 2 + errors[1] ** 2) ** 0.5, (first, second)


@pytest.mark.slow
def test_the_data_s_share_is_that_of_both_paths():
    """With so many replicates that nothing but the examples matters."""
    problem, estimator, batch = built("reparam", PROBLEMS[0])
    fast = probe(problem, estimator, batch, 3000, seed=4)
    exact = probe(problem, estimator, batch, 3000, seed=5, path="loop")
    for group in ("encoder", "decoder"):
        shares = [each.value("weights", group, "data_variance") for each in (fast, exact)]
        assert shares[0] == pytest.approx(shares[1], rel=0.05)


# --- layers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "varying", "count"), [(1, True, 6), (1, False, 6), (2, True, 5), (40, True, 2)])
def test_factors_know_what_the_gradients_are(rows, varying, count, bias):
    """Against outer products: 1, 2 and 40 rows per example, the last of which are formed."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, count if varying else 1, 4, 7, generator=generator, dtype=torch.float64)
    deltas = torch.randn(rows, count, 4, 5, generator=generator, dtype=torch.float64)
    factors = Factors(inputs, deltas, bias)
    assert factors.materialise == (rows == 40)
    plain = torch.einsum("tnbo,tnbi->nboi", deltas, inputs.expand(-1, count, -1, -1)).flatten(2)
    plain = torch.cat([plain, deltas.sum(0)], -1) if bias else plain
    assert torch.allclose(factors.gradients(), plain)
    total = torch.zeros(plain.shape[-1], dtype=torch.float64)
    factors.add_to(total)
    assert torch.allclose(total, plain.mean(1).sum(0))
    noise, examples = factors.squared_deviations(cross=True)
    expected = torch.stack([(plain[at] - plain[at + 1]).square().sum(-1) / 2 for at in range(0, count - 1, 2)])
    assert torch.allclose(noise, expected)
    assert torch.allclose(examples.within, expected.mean(0))
    assert torch.allclose(examples.squares, plain.square().sum(-1).mean(0) - expected.mean(0))
    off = ~torch.eye(4, dtype=torch.bool)
    kept = plain.mean(0) if factors.fixed or factors.materialise else plain[0]
    assert torch.allclose(examples.cross_products[off], (kept @ kept.T)[off])


def test_noise_far_below_the_signal_is_not_lost_in_single_precision():
    """Differences of 1e-4 of the gradient: their squares are 1e-8, which single precision cannot tell from rounding."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 8, 3, 20)
    inputs = 1 + 1e-4 * torch.randn(shape, generator=generator, dtype=torch.float64).float()
    deltas = 1 + 1e-4 * torch.randn(shape, generator=generator, dtype=torch.float64).float()
    factors = Factors(inputs, deltas, bias=True)
    assert factors.cancels()
    noise, _ = factors.squared_deviations(cross=False, precise=True)
    exact, _ = Factors(inputs.double(), deltas.double(), bias=True).squared_deviations(cross=False)
    assert torch.allclose(noise.double(), exact, rtol=1e-4)


# --- where it applies, and where not ------------------------------------------------------------------------------


class Convolutional(nn.Module):
    """64 pixels through two convolutions, as any user might write it."""

    def __init__(self, outputs):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.second = nn.Conv2d(3, 4, 2)
        self.head = nn.Linear(36, outputs)

    def forward(self, x):
        hidden = self.second(torch.tanh(self.first(x.view(-1, 1, 8, 8))))
        return self.head(torch.relu(hidden).flatten(1))


class Deconvolved(nn.Module):
    """A decoder that flattens what comes before the latents, and convolves pictures."""

    def __init__(self, inputs):
        super().__init__()
        self.first = nn.Linear(inputs, 64)
        self.second = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, z):
        hidden = torch.tanh(self.first(z.flatten(0, -2))).view(-1, 1, 8, 8)
        return self.second(hidden).view(*z.shape[:-1], 64)


class Shared(nn.Module):
    """One layer twice, in a chain."""

    def __init__(self, outputs):
        super().__init__()
        self.first, self.twice, self.head = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.twice(torch.tanh(self.twice(torch.tanh(self.first(x)))))))


class Normalised(nn.Sequential):
    """Batch normalisation makes of the examples' gradients one."""

    def __init__(self, outputs):
        super().__init__(nn.Linear(64, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, outputs))


class Functional(nn.Sequential):
    """A layer's weight that is used outside of the layer."""

    def __init__(self, outputs):
        super().__init__(nn.Linear(64, 6), nn.Linear(6, outputs))

    def forward(self, x):
        return super().forward(x) + 0.1 * self[1].weight.sum()


class Scaled(nn.Module):
    """A decoder with a weight of its own beside its layers."""

    def __init__(self, inputs):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.7]))
        self.layer = nn.Linear(inputs, 64)

    def forward(self, z):
        return self.layer(z) * self.scale


def remade(encoder=None, decoder=None):
    problem, estimator, batch = built("reparam", f"{SMALL}]")
    torch.manual_seed(4)
    if encoder:
        problem.encoder = encoder(problem.family.outputs).double()
    if decoder:
        problem.decoder = decoder(problem.family.inputs).double()
    return problem, estimator, batch


@pytest.mark.parametrize(
    ("encoder", "decoder"), [(Convolutional, None), (None, Deconvolved), (Shared, None), (None, Scaled)]
)
def test_modules_of_the_user_that_it_applies_to(encoder, decoder):
    problem, estimator, batch = remade(encoder, decoder)
    found = probe(problem, estimator, batch, REPLICATES, seed=3)
    assert (found.path, found.reason) == ("fast", "")
    for group, accumulator in one_by_one(problem, estimator, batch, 3).items():
        expected = summarise(accumulator)["variance"].value
        assert found.value("weights", group, "variance") == pytest.approx(expected, rel=1e-10, abs=1e-20)
        mean = summarise(accumulator)["mean_norm2"].value
        assert found.value("weights", group, "mean_norm2") == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize(
    ("encoder", "share", "reason"), [(Normalised, False, "BatchNorm1d"), (Functional, True, "outside of its layer")]
)
def test_modules_that_it_does_not_apply_to_take_the_loop_and_say_why(encoder, share, reason):
    problem, estimator, batch = remade(encoder)
    found = probe(problem, estimator, batch, REPLICATES, seed=3)
    assert found.path == "loop"
    assert reason in found.reason
    assert found.value("weights", "encoder", "variance") > 0
    # Where examples are mixed, none has a gradient of its own, and the data's share is not told.
    told = {row["statistic"] for row in found.rows if row["space"] == "weights"}
    assert ("data_variance" in told) == share
    assert any("data_variance" in line for line in found.absent) != share


def test_weights_are_themselves_again_even_after_an_error():
    problem, estimator, batch = remade(None, Scaled)
    before = dict(problem.named_parameters())
    problem.objective = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        probe(problem, estimator, batch, REPLICATES)
    after = dict(problem.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is weight for name, weight in before.items())
    assert not any(module._forward_hooks for module in problem.modules())
