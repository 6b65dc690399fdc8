"""Two layers of bits: the bound, its exact value and its importance weights, against sums written out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from estbench import measure, problems
from estbench.errors import EstbenchError
from estbench.measure.gradients import loop
from estbench.problems.priors import LearnedPrior

VARIANTS = (
    "latent_size=2,hidden=[],prior=learned",
    "latent_size=3,hidden=[5],coding=signed",
    "latent_size=2,hidden=[4,3],activation=leaky_relu,prior=learned,coding=signed",
)


def build(options, count=3):
    torch.manual_seed(1)
    problem = problems.create(f"hierarchical_vae[dataset=digits,{options}]").double()
    if isinstance(problem.prior, LearnedPrior):
        nn.init.normal_(problem.prior.outputs)
    x = problem.observe(torch.from_numpy(problem.data.train[:count]), torch.Generator().manual_seed(2)).double()
    return problem, x


def log_bernoulli(bits, logits):
    return (bits * logits.sigmoid().log() + (1 - bits) * (1 - logits.sigmoid()).log()).sum(-1)


def by_hand(problem, x):
    """log p(x, b1, b2) and log q(b1, b2|x) at all pairs of values, (N, N, B) each."""
    size = problem.options.latent_size
    values = [torch.tensor(bits).double() for bits in itertools.product([0.0, 1.0], repeat=size)]
    code = (lambda bits: 2 * bits - 1) if problem.options.coding == "signed" else (lambda bits: bits)
    prior = problem.prior.outputs
    log_p, log_q = [], []
    for b1, b2 in itertools.product(values, repeat=2):
        within = log_bernoulli(b2, prior) + log_bernoulli(b1, problem.second_decoder(code(b2)))
        log_p.append(within + log_bernoulli(x, problem.decoder(code(b1))))
        log_q.append(log_bernoulli(b1, problem.encoder(x)) + log_bernoulli(b2, problem.second_encoder(code(b1))))
    return tuple(torch.stack(found).view(len(values), len(values), len(x)) for found in (log_p, log_q))


@pytest.mark.parametrize("options", VARIANTS)
def test_the_exact_bound_and_its_gradient_are_the_sum_over_both_layers(options):
    problem, x = build(options)
    log_p, log_q = by_hand(problem, x)
    torch.testing.assert_close(log_q.exp().sum((0, 1)), torch.ones(3).double(), rtol=0, atol=1e-12)
    elbo = (log_q.exp() * (log_p - log_q)).sum((0, 1))
    exact = problem(x).exact()
    torch.testing.assert_close(exact, elbo, rtol=1e-12, atol=1e-11)
    weights = list(problem.parameters())
    for first, second in zip(*(torch.autograd.grad(each.sum(), weights) for each in (exact, elbo)), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", VARIANTS)
def test_importance_weights_are_those_of_both_layers(options, largest_z):
    """Each is one of the enumerated weights at its b1; their mean is p(x), and that of their logarithms the ELBO."""
    problem, x = build(options)
    log_p, log_q = by_hand(problem, x)
    objective = problem(x)
    b1 = objective.q.sample((20_000,))
    with torch.no_grad():
        log_weights = objective.bound_terms(b1).log_weight
        index = (b1 * 2 ** torch.arange(b1.shape[-1] - 1, -1, -1)).sum(-1).long()
        possible = (log_p - log_q)[index, :, torch.arange(3)]  # (S, B, N): over all b2
    torch.testing.assert_close((possible - log_weights[..., None]).abs().amin(-1), torch.zeros(20_000, 3).double())
    evidence = log_p.logsumexp((0, 1))
    for found, mean in (((log_weights - evidence).exp(), 1.0), (log_weights, objective.exact())):
        z = (found.mean(0) - mean) / found.std(0) * math.sqrt(20_000)
        assert z.abs().max() < largest_z(2 * 3 * len(VARIANTS))
    assert objective.evaluations > 0


def test_the_bounds_of_an_evaluation_are_those_of_pairs_of_both_layers(largest_z):
    """ELBO and IWAE bound with 2 draws: their means and errors are sums over all pairs of joint values."""
    problem, x = build(VARIANTS[0], count=1)
    found = measure.evaluate_elbo(problem, x.expand(20_000, -1), 2, seed=3)
    log_p, log_q = (each.flatten().detach() for each in by_hand(problem, x))
    log_w, chance = log_p - log_q, (log_q[:, None] + log_q).exp()
    elbo = (log_w[:, None] + log_w) / 2
    iwae = torch.logaddexp(log_w[:, None], log_w) - math.log(2)
    for name, values in (("elbo", elbo), ("iwae", iwae)):
        mean = (chance * values).sum()
        error = ((chance * (values - mean).square()).sum() / 20_000).sqrt()
        assert abs(getattr(found, name) - float(mean)) < largest_z(2) * float(error)


def test_f_is_random_with_the_right_mean_and_the_same_noise_at_every_call(largest_z):
    problem, x = build(VARIANTS[1])
    logits = problem.encode(x)["logits"].expand(20_000, -1, -1)
    objective = problem.objective({"logits": logits}, x)
    b1 = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0]]).double()
    with torch.no_grad():
        f = objective.f(b1.expand(1, *logits.shape))
        assert torch.equal(f, objective.f(b1.expand(1, *logits.shape)))
        expected = log_bernoulli(x, problem.decoder(2 * b1 - 1)) + objective.second(b1).exact()
    z = (f[0].mean(0) - expected) / f[0].std(0) * math.sqrt(20_000)
    assert f[0].std(0).min() > 0
    assert z.abs().max() < largest_z(3)


@pytest.mark.parametrize("count", [1, 3])
def test_sizes_of_the_perceptrons(count):
    problem, _ = build(f"latent_size=7,hidden={[5, 4, 3][:count]}".replace(" ", ""))
    sizes = {
        name: [(layer.in_features, layer.out_features) for layer in getattr(problem, name) if hasattr(layer, "bias")]
        for name in ("encoder", "second_encoder", "second_decoder", "decoder")
    }
    hidden = [5, 4, 3][:count]
    chains = {
        "encoder": [64, *hidden, 7],
        "second_encoder": [7, *hidden, 7],
        "second_decoder": [7, *hidden[::-1], 7],
        "decoder": [7, *hidden[::-1], 64],
    }
    assert sizes == {name: list(itertools.pairwise(chain)) for name, chain in chains.items()}


def test_its_card_is_its_own():
    cls = problems.PROBLEMS.get("hierarchical_vae")
    options = problems.PROBLEMS.options("hierarchical_vae[dataset=mnist5k,prior=learned]")
    assert cls.card_of(options) == "mnist5k-v1-dynamic-per-class-bernoulli-bernoulli-learned-binary"
    assert (cls.latents_of(options), cls.bound_of(options)) == ("bernoulli", "elbo")


def test_the_data_s_share_is_told_though_f_is_random_and_not_where_examples_are_mixed():
    problem, x = build(VARIANTS[0], count=4)
    assert not loop.why_examples_mix(problem, x)
    problem.decoder = nn.Sequential(nn.Linear(2, 6), Normalised(), nn.Linear(6, 64)).double()
    assert loop.why_examples_mix(problem, x)


class Normalised(nn.Module):
    """Subtracts the minibatch's mean."""

    def forward(self, rows):
        return rows - rows.mean(-2, keepdim=True)


def test_what_is_too_large_to_enumerate_says_so():
    problem, x = build("latent_size=7,hidden=[]")
    with pytest.raises(EstbenchError, match=r"more than 4096 values together; take fewer"):
        problem(x).exact()
    assert build("latent_size=6,hidden=[]", count=1)[0](x[:1]).exact().shape == (1,)


def test_without_an_estimator_for_the_second_layer_there_is_no_gradient():
    problem, x = build(VARIANTS[0])
    objective = problem(x)
    with pytest.raises(
        EstbenchError, match=r"second latent of this problem has no estimator; .* estimators.create_for\(variant"
    ):
        objective.f(objective.q.sample((1,)))
