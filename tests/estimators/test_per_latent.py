"""Two stochastic layers: unbiased where the estimator is, both layers with a state of their own, every call counted."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.two_latents import bound
from scipy import stats

from estbench import estimators, measure, problems
from estbench.errors import EstbenchError
from estbench.estimators import check_supports, create, create_for
from estbench.execution import plan_of
from estbench.experiment.spec import experiment_from
from estbench.problems.priors import LearnedPrior

OPTIONS = ("latent_size=2,hidden=[],prior=learned", "latent_size=2,hidden=[3],prior=learned,coding=signed")
BLOCKS, REPLICATES = 100, 1000


def variants(*, unbiased=None):
    """Every choice of options with a certificate that is for bits and the ELBO."""
    problem = problems.PROBLEMS.get("hierarchical_vae")
    for name in estimators.names():
        cls = estimators.ESTIMATORS.get(name)
        try:
            check_supports(cls, problem, problem.Options())
        except EstbenchError:
            continue
        for variant in (name, *cls.variants):
            if variant != "concrete[kl=concrete]" and unbiased in {None, create(variant).unbiased}:
                yield variant


def build(options, count=2, dtype=torch.float64, name="hierarchical_vae"):
    torch.manual_seed(1)
    problem = problems.create(f"{name}[dataset=digits,{options}]").to(dtype)
    for module in problem.modules():
        if isinstance(module, LearnedPrior):
            torch.nn.init.normal_(module.outputs)
    x = problem.observe(torch.from_numpy(problem.data.train[:count]), torch.Generator().manual_seed(2)).to(dtype)
    return problem, x


def prepared(variant, problem, x):
    estimator = create_for(variant, problem)
    with torch.no_grad():
        estimator.prepare(problem(x))
    return estimator.to(x.dtype)


def block_means(problem, estimator, x):
    """Gradients at all weights, averaged over the replicates of each block: (BLOCKS, P)."""
    weights = list(problem.parameters())
    rows = []
    for _ in range(BLOCKS):
        expanded = {name: value.expand(REPLICATES, *value.shape) for name, value in problem.encode(x).items()}
        found = torch.autograd.grad(estimator(problem.objective(expanded, x)).mean(), weights)
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
    return torch.stack(rows)


def t_scores(variant, options, name="hierarchical_vae", kl_weight=1.0):
    """Of the weights of all groups; and the largest standard error in a network, in units of its gradient's norm."""
    problem, x = build(options, name=name)
    problem.kl_weight = kl_weight
    estimator = prepared(variant, problem, x).eval()
    exact = torch.autograd.grad(bound(problem, x, kl_weight).mean(), list(problem.parameters()))
    expected = torch.cat([gradient.flatten() for gradient in exact])
    torch.manual_seed(5)
    rows = block_means(problem, estimator, x)
    deviation, error = rows.mean(0) - expected, rows.std(0) / math.sqrt(BLOCKS)
    # Pixels that are off have no gradient, and no noise: rounding is all there may be.
    quiet = error < 1e-12
    assert deviation[quiet].abs().max() < 1e-12
    networks = [name.partition(".")[0] for name, weight in problem.named_parameters() for _ in range(weight.numel())]
    relative = {}
    for network in dict.fromkeys(networks):
        own = torch.tensor([name == network for name in networks])
        relative[network] = float(error[own].max() / expected[own].norm())
    return (deviation / error)[~quiet], relative


def threshold(tests):
    """Bonferroni: any of ``tests`` t-scores of true hypotheses exceeds this with probability 1e-4 at most."""
    return float(stats.t.isf(1e-4 / (2 * tests), BLOCKS - 1))


NAMED = ("reinforce", "reinforce[baseline=nvil]", "rloo", "arm", "disarm", "muprop", "rebar", "relax")


# One for each choice of options; the others are slow.
QUICK = {("arm", OPTIONS[0]), ("rloo", OPTIONS[1])}


@pytest.mark.parametrize(
    ("variant", "options"),
    [
        pytest.param(name, options, marks=[] if (name, options) in QUICK else [pytest.mark.slow])
        for name in NAMED
        for options in OPTIONS
    ],
)
def test_every_weight_of_both_layers_gets_the_exact_gradient(variant, options):
    """Of a weight, a bias of 5 % of its network's gradient would be found 99 times in 100.

    Of 12 % for a score function whose baseline knows nothing, and there the noise of q(b1|x) is too large to say.
    """
    scores, errors = t_scores(variant, options)
    limit = threshold(len(NAMED) * len(OPTIONS) * len(scores))
    assert scores.abs().max() < limit
    if "reinforce" in variant:
        errors.pop("encoder")
    assert (limit + stats.norm.isf(0.01)) * max(errors.values()) < (0.12 if "reinforce" in variant else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("variant", sorted(set(variants(unbiased=True)) - {*NAMED, "enumeration"}))
def test_all_the_other_unbiased_ones_too(variant):
    scores, _ = t_scores(variant, OPTIONS[1])
    assert scores.abs().max() < threshold(30 * len(scores))


NORMAL = "latents=normal,latent_size=1,hidden=[3],prior=learned"
CATEGORICAL = "latents=categorical,categories=3,latent_size=1,hidden=[3],prior=learned,coding=signed"
MIXED = "discrete_size=1,categories=3,continuous_size=1,hidden=[3],prior=learned"
MIXED_BITS = "discrete=bernoulli,discrete_size=2,continuous_size=1,hidden=[],prior=learned"
# Every family of two latents, with plain estimators and an estimator for each latent, with and without a weight.
CASES = [
    ("hierarchical_vae", NORMAL, "reparam", 1.0),
    ("hierarchical_vae", NORMAL, "stl", 0.5),
    ("hierarchical_vae", NORMAL, "rloo[num_samples=4]", 1.0),
    ("hierarchical_vae", NORMAL, "per_latent[z1=rloo,z2=reparam]", 2.0),
    ("hierarchical_vae", NORMAL, "per_latent[z1=stl,z2=rloo]", 1.0),
    ("hierarchical_vae", NORMAL, "per_latent[z1=measure-valued,z2=antithetic]", 1.0),
    ("hierarchical_vae", CATEGORICAL, "rloo", 1.0),
    ("hierarchical_vae", CATEGORICAL, "per_latent[z1=arsm,z2=rloo]", 0.5),
    ("hierarchical_vae", OPTIONS[1], "per_latent[z1=disarm,z2=rebar]", 1.0),
    ("hierarchical_vae", OPTIONS[1], "disarm", 0.5),
    ("mixed_vae", MIXED, "rloo", 1.0),
    ("mixed_vae", MIXED, "per_latent[y=rloo,z=reparam]", 0.5),
    ("mixed_vae", MIXED, "per_latent[y=enumeration,z=stl]", 1.0),
    ("mixed_vae", MIXED, "per_latent[y=arsm,z=reparam]", 1.0),
    ("mixed_vae", MIXED_BITS, "per_latent[y=disarm,z=stl]", 2.0),
    ("mixed_vae", MIXED_BITS, "per_latent[y=rebar,z=reparam]", 1.0),
    ("mixed_vae", MIXED_BITS, "per_latent[y=relax,z=rloo]", 1.0),
]


# One of each problem, both with an estimator for each latent; the others are slow.
FIRST = {3, 14}


@pytest.mark.parametrize(
    ("name", "options", "variant", "kl_weight"),
    [pytest.param(*case, marks=[] if number in FIRST else [pytest.mark.slow]) for number, case in enumerate(CASES)],
)
def test_every_pair_of_latents_gets_the_exact_gradient(name, options, variant, kl_weight):
    """The reference is a sum or quadrature over both latents, written without the objective that is tested."""
    scores, _ = t_scores(variant, options, name, kl_weight)
    assert scores.abs().max() < threshold(len(CASES) * len(scores))


@pytest.mark.parametrize(("name", "options"), sorted({(name, options) for name, options, _, _ in CASES}))
@pytest.mark.parametrize("kl_weight", [1.0, 0.3])
def test_bounds_are_the_true_ones_of_both_latents(name, options, kl_weight):
    problem, x = build(options, name=name)
    problem.kl_weight = kl_weight
    found = measure.evaluate_elbo(problem, x[:1].expand(20_000, -1), 2, seed=3)
    exact = float(bound(problem, x)[0].detach())
    assert abs(found.elbo - exact) < 0.1
    assert exact < found.iwae
    if options in OPTIONS:
        torch.testing.assert_close(problem(x).exact(), bound(problem, x, kl_weight), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variant", ["straight-through", "concrete"])
def test_a_bias_would_be_found(variant):
    scores, _ = t_scores(variant, OPTIONS[1])
    assert scores.abs().max() > threshold(len(scores))


def test_enumeration_is_exact():
    problem, x = build(OPTIONS[1])
    estimator = prepared("enumeration", problem, x)
    pairs = [
        torch.autograd.grad(value.mean(), list(problem.parameters()))
        for value in (estimator(problem(x)), problem(x).exact())
    ]
    assert all(map(torch.equal, *pairs))
    with pytest.raises(EstbenchError, match="more than 4096 values together; take fewer latents"):
        prepared("enumeration", *build("latent_size=7,hidden=[]"))


@pytest.mark.parametrize("variant", list(variants()))
def test_evaluations_are_rows_of_the_two_decoders(variant):
    problem, x = build(OPTIONS[0])
    estimator = prepared(variant, problem, x)
    rows = []
    for decoder in (problem.decoder, problem.second_decoder):
        decoder.register_forward_hook(lambda _module, inputs, _output: rows.append(inputs[0].shape[:-1].numel()))
    before = torch.get_rng_state()
    counted = estimator.count_evaluations(problem(x))
    assert torch.equal(torch.get_rng_state(), before)
    rows.clear()
    objective = problem(x)
    estimator(objective)
    assert sum(rows) == objective.evaluations == len(x) * counted
    assert counted == estimator.evaluations == estimator.facts()["evaluations"]


def test_the_cost_of_a_layer_is_multiplied():
    """2 samples of b1: each calls f once, draws its b2 once, and has an estimate from 2 samples of b2."""
    problem, x = build(OPTIONS[0])
    assert prepared("disarm", problem, x).evaluations == 2 * (1 + 1 + 2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", list(variants()))
def test_no_example_hears_of_another_and_the_same_seed_gives_the_same_gradient(variant, training):
    problem, x = build(OPTIONS[1], count=4)
    other = x.clone()
    other[2:] = 1 - other[2:]
    found = []
    for batch in (x, x, other):
        torch.manual_seed(3)
        estimator = prepared(variant, problem, x).train(training)
        params = {
            name: value.detach().expand(3, *value.shape).clone().requires_grad_()
            for name, value in problem.encode(x).items()
        }
        torch.manual_seed(4)
        surrogate = estimator(problem.objective(params, batch))
        assert surrogate.shape == (3, 4)
        found.append(torch.autograd.grad(surrogate.sum(), list(params.values()))[0])
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0][:, :2], found[2][:, :2], rtol=1e-12, atol=1e-13)
    if variant not in {"enumeration", "detached", "reinforce[baseline=nvil,normalise=true]"}:  # whose first is zero
        assert not torch.equal(found[0][0], found[0][1])


@pytest.mark.parametrize("variant", ["reinforce[baseline=ema]", "reinforce[baseline=nvil]", "relax", "rodeo"])
def test_the_state_of_both_layers_changes_in_training_alone(variant):
    problem, x = build(OPTIONS[0])
    estimator = prepared(variant, problem, x)
    optimizer = torch.optim.SGD(list(estimator.parameters()) or [torch.zeros(())], lr=0.1)

    def step():
        before = {name: value.clone() for name, value in estimator.state_dict().items()}
        optimizer.zero_grad()
        estimator(problem(x)).mean().backward()
        optimizer.step()
        return {name for name, value in estimator.state_dict().items() if not torch.equal(value, before[name])}

    changed = step() | step()
    assert {name.partition(".")[0] for name in changed} == {"first", "second"}
    estimator.eval()
    assert step() == set()
    again = prepared(variant, problem, x)
    again.load_state_dict(estimator.state_dict())
    surrogates = []
    for each in (estimator, again.eval()):
        torch.manual_seed(6)
        surrogates.append(each(problem(x)))
    assert torch.equal(*surrogates)


def test_learned_parts_have_the_sizes_of_their_layer():
    problem, x = build("latent_size=5,hidden=[]")
    relax = prepared("relax", problem, x)
    assert relax.first.network[0].in_features == 5 + 64  # the noise of b1, and x
    assert relax.second.network[0].in_features == 5 + 5  # the noise of b2, and b1


def test_other_problems_have_one_layer_and_no_wrapper():
    problem = problems.create("bernoulli_toy")
    assert type(create_for("disarm", problem)) is type(create("disarm"))


def test_an_estimator_that_asks_for_a_prior_of_the_first_layer_is_refused_before_the_first_step():
    problem, x = build(OPTIONS[0])
    with pytest.raises(EstbenchError, match=r"asks for the prior of the first of two layers.*other options of it"):
        prepared("concrete[kl=concrete]", problem, x)


MIXED_PROBLEM = "mixed_vae[dataset=digits,hidden=[3],continuous_size=1]"
PLAIN_PROBLEM = "vae[dataset=digits,hidden=[3],latent_size=1]"


@pytest.mark.parametrize(
    ("variant", "problem", "complaint"),
    [
        ("per_latent", MIXED_PROBLEM, "name an estimator for each latent, for example per_latent"),
        ("per_latent[y=rloo]", MIXED_PROBLEM, "name an estimator for each latent"),
        ("per_latent[a=rloo,b=stl]", MIXED_PROBLEM, "names the latents a and b, and the problem has y and z"),
        ("per_latent[y=rloo,z=stl,x=stl]", MIXED_PROBLEM, "names the latents x and y and z"),
        ("per_latent[y=rloo,z=stl]", PLAIN_PROBLEM, "names the latents y and z, and the problem has z"),
        ("per_latent[y=rlo,z=stl]", MIXED_PROBLEM, "unknown estimator 'rlo'; did you mean 'rloo'"),
        ("per_latent[y=rloo[num=3],z=stl]", MIXED_PROBLEM, "unknown key 'num'"),
        ("per_latent[y=3,z=stl]", MIXED_PROBLEM, "'y' needs the name of one estimator, got 3"),
        ("per_latent[y=per_latent[y=rloo,z=stl],z=stl]", MIXED_PROBLEM, "'y' needs the name of one estimator"),
        ("per_latent[y=reparam,z=rloo]", MIXED_PROBLEM, "'reparam' requires .* has categorical latents y"),
        ("reparam", MIXED_PROBLEM, r"or name an estimator for each: per_latent\[y=..., z=...\]"),
        ("per_latent[y=vimco,z=stl]", MIXED_PROBLEM, "vimco.*(multi-sample|ELBO)"),
    ],
)
def test_what_names_the_wrong_estimators_is_refused_before_anything_is_run(variant, problem, complaint):
    with pytest.raises(EstbenchError, match=complaint):
        plan_of(experiment_from({"estimators": [variant], "problems": [problem]}))


def test_the_key_of_named_estimators_depends_on_each_and_not_on_how_it_is_written():
    def key(variant):
        return plan_of(experiment_from({"estimators": [variant], "problems": [MIXED_PROBLEM]})).cells[0].key

    assert key("per_latent[y=rloo,z=stl]") == key("per_latent[z=stl,y=rloo[num_samples=2]]")
    others = {key(f"per_latent[y={y},z={z}]") for y in ("rloo", "rloo[num_samples=3]", "arsm") for z in ("stl", "rloo")}
    assert len(others) == 6


def test_the_facts_of_named_estimators_are_those_of_both():
    estimator = create_for("per_latent[z=stl,y=st-gumbel]", problems.create(MIXED_PROBLEM))
    facts = estimator.facts()
    assert facts["reference"] == f"{create('st-gumbel').reference}, roeder2017"
    assert facts["unbiased"] is False
    assert "of y: " in facts["summary"]
    assert [part.name for part in estimator.parts] == ["st-gumbel", "stl"]
    assert repr(estimator) == "per_latent[y=st-gumbel,z=stl]"
