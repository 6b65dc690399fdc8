"""The probe on modules that the fast path knows nothing of, in the encoder and in the decoder."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from oracles import plain_backward
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.measure import evaluate_elbo, frozen, probe


class Flat(nn.Module):
    """A module that takes one batch dimension, under any."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, rows):
        return self.inner(rows.flatten(0, -2)).unflatten(0, rows.shape[:-1])


class Between(nn.Module):
    """Something between two linear layers, as a function of the hidden units."""

    def __init__(self, inputs, outputs, between):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, 8), nn.Linear(8, outputs)
        self.weight = nn.Parameter(torch.eye(8) + 0.1)
        self.between = between

    def forward(self, rows):
        return self.last(torch.tanh(self.between(self, self.first(rows))))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell = kind(4, 8, batch_first=True)

    def forward(self, rows):
        return self.cell(rows.view(len(rows), 2, 4))[0][:, -1]


class Attends(nn.Module):
    """Two tokens of four that look at each other."""

    def __init__(self):
        super().__init__()
        self.heads = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, rows):
        tokens = rows.view(len(rows), 2, 4)
        return self.heads(tokens, tokens, tokens)[0].flatten(1)


class LooksUp(nn.Module):
    """A row of a table for the number of units above zero."""

    def __init__(self, *, sparse):
        super().__init__()
        self.table = nn.Embedding(9, 8, sparse=sparse)

    def forward(self, rows):
        return rows + self.table((rows > 0).sum(-1))


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.form = nn.Bilinear(8, 8, 8)

    def forward(self, rows):
        return self.form(rows, rows)


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, rows):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(rows).float()


def frozen_layer():
    layer = nn.Linear(8, 8)
    return layer.requires_grad_(False)


def with_module(make):
    return lambda i, o: nn.Sequential(nn.Linear(i, 8), make(), nn.Tanh(), nn.Linear(8, o))


def with_function(between):
    return lambda i, o: Between(i, o, between)


MODULES = {
    "transposed": with_module(
        lambda: nn.Sequential(nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 2, 1), nn.Flatten(1))
    ),
    "layer norm": with_module(lambda: nn.LayerNorm(8)),
    "group norm": with_module(lambda: nn.GroupNorm(2, 8)),
    "batch norm": with_module(lambda: nn.BatchNorm1d(8)),
    "prelu": with_module(nn.PReLU),
    "weight norm": with_module(lambda: parametrizations.weight_norm(nn.Linear(8, 8))),
    "spectral norm": with_module(lambda: parametrizations.spectral_norm(nn.Linear(8, 8))),
    "weight norm by hooks": with_module(lambda: nn.utils.weight_norm(nn.Linear(8, 8))),
    "spectral norm by hooks": with_module(lambda: nn.utils.spectral_norm(nn.Linear(8, 8))),
    "attention": with_module(Attends),
    "embedding": with_module(lambda: LooksUp(sparse=False)),
    "sparse embedding": with_module(lambda: LooksUp(sparse=True)),
    "bilinear": with_module(Product),
    "autocast": with_module(Autocast),
    "gru": with_module(lambda: Recurrent(nn.GRU)),
    "frozen": with_module(frozen_layer),
    "overwrites": with_module(lambda: nn.ReLU(inplace=True)),
    "matmul": with_function(lambda own, rows: rows @ own.weight),
    "scalar": with_function(lambda own, rows: rows * own.weight[0, 0].exp()),
    "checkpoint": with_function(lambda own, rows: checkpoint(torch.tanh, rows, use_reentrant=False)),
    "reentrant": with_function(lambda own, rows: checkpoint(torch.tanh, rows, use_reentrant=True)),
    "noisy": with_function(lambda _own, rows: F.dropout(rows, 0.3, training=True)),
    "mixes": with_function(lambda _own, rows: rows - rows.mean(0)),
}

# Kinds that others stand for where tests have to be quick.
LIKE_OTHERS = {"group norm", "prelu", "spectral norm", "reentrant", "sparse embedding", "scalar", "checkpoint"}
LIKE_OTHERS |= {"weight norm by hooks", "spectral norm by hooks", "transposed", "overwrites"}
# Of these, on both sides: a norm, a checkpoint and a weight by hooks of another kind are tried.
LIKE_OTHERS_ON_BOTH = {"group norm", "prelu", "spectral norm", "reentrant", "scalar", "spectral norm by hooks"}


def remade(name, side):
    torch.manual_seed(1)
    problem = problems.create("vae[dataset=digits,hidden=[6],latent_size=2]")
    module = MODULES[name](64, 4) if side == "encoder" else Flat(MODULES[name](2, 64))
    setattr(problem, side, module)
    batch = problem.observe(torch.from_numpy(problem.data.train[:5]), torch.Generator().manual_seed(2))
    return problem, estimators.create("reparam"), batch


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # reentrant, without gradients
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("name", "side"),
    [
        pytest.param(
            name,
            side,
            marks=[pytest.mark.slow] * (name in (LIKE_OTHERS if side == "encoder" else LIKE_OTHERS_ON_BOTH)),
        )
        for name in MODULES
        for side in ("encoder", "decoder")
    ],
)
def test_any_module_can_be_probed_and_is_left_as_it_was(name, side):
    """Fast where it can be, and in a loop: both agree with backward calls by hand, of R = 60 each.

    False alarm: 4e-3 for all of some 200 comparisons, were the logarithms of 30 pairs' means t-distributed.
    """
    problem, estimator, batch = remade(name, side)
    before = {key: value.clone() for key, value in problem.state_dict().items()}
    found = probe(problem, estimator, batch, 60, seed=3)
    assert (found.path == "loop") == bool(found.reason)
    assert problem.training
    assert all(torch.equal(value, before[key]) for key, value in problem.state_dict().items())
    drawn = {place: rows for place, rows in plain_backward.draw(problem, estimator, batch, 60, 4).items() if rows.any()}
    looped = found if found.path == "loop" else probe(problem, estimator, batch, 60, seed=5, path="loop")
    for moments in (found, looped):
        for place, z in plain_backward.z_scores(moments, drawn).items():
            assert abs(z) < 4.5, (moments.path, place)
    absent = not any(row["space"] == "weights" and row["statistic"] == "data_variance" for row in found.rows)
    assert absent == any("data_variance" in line for line in found.absent)
    assert absent or name != "mixes"


def test_the_fast_path_alone_says_why_it_cannot_be_used():
    problem, estimator, batch = remade("layer norm", "decoder")
    with pytest.raises(EstbenchError, match="LayerNorm"):
        probe(problem, estimator, batch, 4, path="fast")
    assert probe(problem, estimator, batch, 4, path="loop").path == "loop"


def test_an_activation_that_overwrites_its_input_is_no_obstacle():
    problem, estimator, batch = remade("overwrites", "decoder")
    problem.encoder = nn.Linear(64, 4)
    assert probe(problem, estimator, batch, 4).path == "fast"


class Counting(nn.Module):
    """Counts its calls, keeps what it saw, and moves a buffer, whatever the mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.seen = None

    def forward(self, rows):
        self.calls += 1
        self.seen = rows
        return rows


@pytest.mark.parametrize("measure", ["evaluate_elbo", "probe"])
def test_measuring_restores_each_module_s_mode_buffers_attributes_and_gradients(measure):
    problem, estimator, batch = remade("batch norm", "decoder")
    counting = Counting()
    problem.encoder = nn.Sequential(nn.Dropout(), nn.Linear(64, 4), counting)
    problem.encoder[0].eval()
    problem(batch).kl().sum().backward()
    gradient = problem.encoder[1].weight.grad
    values = gradient.clone()
    before = {key: value.clone() for key, value in problem.state_dict().items()}
    seen, modes, noise = counting.seen, [module.training for module in problem.modules()], torch.get_rng_state()
    if measure == "evaluate_elbo":
        assert evaluate_elbo(problem, batch, 3, 0) == evaluate_elbo(problem, batch, 3, 0)
    else:
        probe(problem, estimator, batch, 4)
    assert counting.seen is seen
    assert [module.training for module in problem.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in problem.state_dict().items())
    assert problem.encoder[1].weight.grad is gradient
    assert torch.equal(gradient, values)
    assert torch.equal(noise, torch.get_rng_state())


def test_frozen_gives_back_after_an_error_too():
    problem, _, _ = remade("batch norm", "encoder")
    try:
        with frozen(problem):
            assert not any(module.training for module in problem.modules())
            raise ZeroDivisionError  # noqa: TRY301
    except ZeroDivisionError:
        assert all(module.training for module in problem.modules())


def test_a_normalisation_is_probed_with_its_running_statistics():
    """R = 200 each, in a mode in which the other one is far away; a false alarm has a probability of 5e-5."""
    problem, estimator, batch = remade("batch norm", "encoder")
    norms = problem.encoder[1], nn.BatchNorm1d(8)
    problem.decoder = Flat(nn.Sequential(nn.Linear(2, 8), norms[1], nn.Linear(8, 64)))
    for norm in norms:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 2, 9)
    found = probe(problem, estimator, batch, 200, seed=3)
    drawn = plain_backward.draw(problem, estimator, batch, 200, 4)
    scores = plain_backward.z_scores(found, drawn, ("variance", "mean_norm2"))
    assert ("params", "loc", "mean_norm2") in scores
    for place, z in scores.items():
        assert abs(z) < 4.5, place
    other = plain_backward.draw(problem, estimator, batch, 200, 4, training=True)
    assert abs(plain_backward.z_scores(found, other)["params", "loc", "variance"]) > 10
