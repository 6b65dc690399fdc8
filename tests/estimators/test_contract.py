"""What every registered estimator must hold to, whatever its formula: it is tested by being registered."""

from __future__ import annotations

import json

import pytest
import torch

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.estimators import Estimator
from estbench.problems import Objective

EXTRA = (
    "reinforce[num_samples=3]",
    "reinforce[baseline=ema]",
    "reinforce[baseline=nvil,hidden=5]",
    "rloo[num_samples=4]",
)
VARIANTS = [name for name in (*estimators.names(), *EXTRA) if "normal" in estimators.create(name).supports]
# Estimators that draw all their samples by one call, and so the same samples as each other.
ONE_CALL = ("detached", "reparam", "stl", "reinforce", "rloo", *EXTRA)
KLS = ("analytic", "sampled")
BATCH_SHAPES = [(4,), (6, 4), (2, 3, 4)]


def make_problem(kl="analytic", dtype=torch.float64):
    torch.manual_seed(1)
    return problems.create(f"vae[dataset=digits,latent_size=3,hidden=[8],kl={kl}]").to(dtype)


def make_observations(problem, dtype=torch.float64):
    intensities = torch.from_numpy(problem.data.train[:4])
    return problem.observe(intensities, torch.Generator().manual_seed(2)).to(dtype)


def make_estimator(variant, problem, x):
    torch.manual_seed(3)
    estimator = estimators.create(variant)
    with torch.no_grad():
        estimator.prepare(problem(x))
    return estimator


@pytest.fixture(params=KLS)
def problem(request):
    return make_problem(request.param)


@pytest.fixture
def x(problem):
    return make_observations(problem)


@pytest.fixture(params=VARIANTS)
def estimator(request, problem, x):
    """Every variant after two steps: a moving average has a state that is not zero."""
    estimator = make_estimator(request.param, problem, x)
    for _ in range(2):
        estimator(problem(x))
    return estimator


def leaves(problem, x, batch_shape=(4,)):
    with torch.no_grad():
        params = problem.encode(x)
    return {name: value.expand(*batch_shape, -1).clone().requires_grad_() for name, value in params.items()}


def gradients(estimator, problem, x, params, seed=4):
    """Gradient of the surrogate's sum with respect to the variational parameters; zero where there is none."""
    torch.manual_seed(seed)
    surrogate = estimator(problem.objective(params, x))
    found = torch.autograd.grad(surrogate.sum(), list(params.values()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params.values(), found, strict=True)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_shape", BATCH_SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_one_surrogate_per_example_in_the_precision_of_the_model(variant, dtype, batch_shape, training):
    problem = make_problem(dtype=dtype)
    x = make_observations(problem, dtype)
    estimator = make_estimator(variant, problem, x).train(training)
    params = leaves(problem, x, batch_shape)
    surrogate = estimator(problem.objective(params, x))
    assert surrogate.shape == batch_shape
    assert surrogate.dtype == dtype
    surrogate.mean().backward()
    for value in params.values():
        # A gradient in every place (of detached too: the KL's), and one that is a number.
        assert value.grad.shape == value.shape
        assert value.grad.dtype == dtype
        assert value.grad.isfinite().all()
        assert value.grad.ne(0).all()
    for weight in problem.decoder.parameters():
        assert weight.grad.isfinite().all()
        assert weight.grad.ne(0).any()


def test_the_noise_is_torch_s_own(estimator, problem, x):
    """The same seed gives the same bits, another seed another gradient."""
    estimator.eval()
    params = leaves(problem, x)
    weights = list(problem.decoder.parameters())

    def found(seed):
        torch.manual_seed(seed)
        return torch.autograd.grad(estimator(problem.objective(params, x)).sum(), weights)

    assert all(map(torch.equal, found(4), found(4)))
    assert not any(map(torch.equal, found(4), found(5)))


@pytest.mark.parametrize("training", [True, False])
def test_an_example_does_not_see_the_others(estimator, problem, x, training):
    """Another x in one place, under the same noise, leaves the gradients of all other places bit-equal."""
    estimator.train(training)
    state = {name: value.clone() for name, value in estimator.state_dict().items()}
    changed = x.clone()
    changed[2] = 1 - changed[2]
    params, other = leaves(problem, x, (6, 4)), leaves(problem, changed, (6, 4))
    before = gradients(estimator, problem, x, params)
    estimator.load_state_dict(state)
    after = gradients(estimator, problem, changed, other)
    rest = [0, 1, 3]
    for first, second in zip(before, after, strict=True):
        assert torch.equal(first[:, rest], second[:, rest])
        assert not torch.equal(first[:, 2], second[:, 2])


def test_replicates_are_draws_of_their_own(estimator, problem, x):
    """With a replicate dimension each gradient comes from noise of its own, at the same expected value."""
    estimator.eval()
    params = leaves(problem, x, (6, 4))
    torch.manual_seed(4)
    surrogate = estimator(problem.objective(params, x))
    assert len(surrogate.detach()[:, 0].unique()) == 6
    (slopes,) = torch.autograd.grad(surrogate[2].sum(), [params["loc"]])
    assert slopes[[0, 1, 3, 4, 5]].eq(0).all()


def test_the_declared_evaluations_are_those_made(estimator, problem, x):
    for training in (True, False):
        objective = problem(x)
        estimator.train(training)(objective)
        assert objective.evaluations == estimator.evaluations * len(x)
        replicated = problem.objective(leaves(problem, x, (6, 4)), x)
        estimator(replicated)
        assert replicated.evaluations == estimator.evaluations * 6 * len(x)


def test_f_need_not_be_differentiable_where_that_is_declared(estimator, problem, x):
    """With the path cut inside of f, the gradient is the same bits; of others it is not."""
    estimator.eval()
    params = leaves(problem, x)

    def found(cut):
        objective = problem.objective(params, x)
        inner = objective._log_likelihood
        objective._log_likelihood = lambda z: inner(z.detach() if cut else z)
        torch.manual_seed(4)
        return torch.autograd.grad(estimator(objective).sum(), list(params.values()))

    same = [torch.equal(first, second) for first, second in zip(found(cut=True), found(cut=False), strict=True)]
    assert all(same) != estimator.needs_differentiable_f


def test_state_is_frozen_in_eval_mode(estimator, problem, x):
    before = {name: value.clone() for name, value in estimator.state_dict().items()}
    surrogate = estimator.eval()(problem(x))
    surrogate.sum().backward()
    assert before.keys() == estimator.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in estimator.state_dict().items())
    assert all(parameter.grad is None for parameter in estimator.parameters())


def test_training_mode_changes_no_gradient_of_the_model(estimator, problem, x):
    """What an estimator learns on the side, and what it will remember, does not leak into this step's estimate."""
    params, weights = leaves(problem, x), list(problem.decoder.parameters())

    def found(training):
        torch.manual_seed(4)
        surrogate = estimator.train(training)(problem.objective(params, x))
        return torch.autograd.grad(surrogate.sum(), [*params.values(), *weights])

    frozen, learning = found(training=False), found(training=True)
    assert all(map(torch.equal, frozen, learning))


def test_a_restored_estimator_goes_on_to_the_same_bits(request, estimator, problem, x):
    twin = make_estimator(request.node.callspec.params["estimator"], problem, x)
    twin.load_state_dict(estimator.state_dict())
    params = leaves(problem, x)
    assert all(map(torch.equal, gradients(estimator, problem, x, params), gradients(twin, problem, x, params)))
    assert all(map(torch.equal, estimator.state_dict().values(), twin.state_dict().values()))


@pytest.mark.parametrize("kl", KLS)
@pytest.mark.parametrize("variant", ONE_CALL)
def test_the_decoder_s_gradient_is_the_plain_average_over_the_estimator_s_own_samples(variant, kl):
    """Neither lost nor doubled, and the same for all estimators that draw alike."""
    problem = make_problem(kl)
    x = make_observations(problem)
    estimator = make_estimator(variant, problem, x)
    weights = list(problem.decoder.parameters())
    params = leaves(problem, x)
    for training in (True, False):
        torch.manual_seed(4)
        found = torch.autograd.grad(estimator.train(training)(problem.objective(params, x)).sum(), weights)
        torch.manual_seed(4)
        z = problem.objective(params, x).q.sample((estimator.evaluations,))
        logits = problem.decoder(z)
        log_likelihood = torch.distributions.Bernoulli(logits=logits).log_prob(x.expand_as(logits)).sum(-1)
        expected = torch.autograd.grad(log_likelihood.mean(0).sum(), weights)
        for first, second in zip(found, expected, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=1e-11)


def test_a_weight_in_the_encoder_gets_the_chain_rule_s_gradient(estimator, problem, x):
    """Through the network: what reaches the encoder is its Jacobian times the gradient of the parameters."""
    estimator.eval()
    encoder = list(problem.encoder.parameters())
    torch.manual_seed(4)
    whole = torch.autograd.grad(estimator(problem(x)).mean(), encoder)
    rows = gradients(estimator, problem, x, leaves(problem, x))
    chained = torch.autograd.grad(list(problem.encode(x).values()), encoder, [row / len(x) for row in rows])
    for first, second in zip(whole, chained, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-11)


# --- declared facts and the registry -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", estimators.names())
def test_declared_facts_are_plain_and_complete(name):
    facts = estimators.describe(name)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["name"] == name
    assert len(facts["summary"].splitlines()) == 1
    assert facts["supports"]
    assert facts["evaluations"]  # a number, or a formula
    assert facts["reference"] is None or facts["reference"] in estimators.BIBTEX
    assert facts["documentation"]


@pytest.mark.parametrize(("key", "entry"), estimators.BIBTEX.items(), ids=estimators.BIBTEX)
def test_a_reference_is_a_bibtex_entry_with_its_own_key(key, entry):
    assert entry.startswith("@")
    assert f"{{{key}," in entry.splitlines()[0]
    assert entry.count("{") == entry.count("}")


def test_a_plugin_of_a_few_lines_takes_part(toy, monkeypatch):
    """The example of the design document: registered by name, measured like the others."""
    monkeypatch.setattr(estimators.REGISTRY, "_entries", dict(estimators.REGISTRY._entries))

    @estimators.register("my-reinforce")
    class MyReinforce(Estimator):
        summary = "score function, no baseline"
        supports = frozenset({"normal"})
        unbiased = True
        needs_differentiable_f = False
        evaluations = 1

        def forward(self, objective):
            z = objective.q.sample((1,))
            f = objective.f(z)
            return (f + f.detach() * objective.q.log_prob(z)).mean(0) - objective.kl()

    assert "my-reinforce" in estimators.names()
    problem = toy("cosine", "analytic")
    mine, ours = (problem.prepared(name) for name in ("my-reinforce", "reinforce"))
    torch.manual_seed(6)
    first = problem.gradients(mine, 5)
    torch.manual_seed(6)
    assert torch.equal(first, problem.gradients(ours, 5))


def test_an_estimator_without_its_facts_is_not_registered():
    with pytest.raises(EstbenchError, match="'half' does not declare summary, supports, unbiased"):

        @estimators.register("half")
        class Half(Estimator):
            needs_differentiable_f = False

    assert "half" not in estimators.names()


def test_an_objective_is_all_that_an_estimator_needs(toy):
    """No problem, no dataset, no network: an objective built by hand is enough."""
    problem = toy("quadratic", "none")
    objective = problem.objective(problem.leaves())
    assert isinstance(objective, Objective)
    for variant in VARIANTS:
        estimator = problem.prepared(variant)
        assert estimator(problem.objective(problem.leaves())).shape == (3,)
