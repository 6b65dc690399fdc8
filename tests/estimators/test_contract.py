"""What is asked of estimators beyond their certificates: on a real VAE, in the registry, and of plugins."""

from __future__ import annotations

import json

import pytest
import torch

from estbench import estimators, problems
from estbench.errors import EstbenchError
from estbench.estimators import Estimator
from estbench.problems import Objective


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("name", ["reparam", "stl", "rloo", "detached"])
def test_a_weight_in_the_encoder_gets_the_chain_rule_s_gradient(name, kl):
    """Through the network: what reaches the encoder is its Jacobian times the gradient of the parameters."""
    torch.manual_seed(1)
    problem = problems.create(f"vae[dataset=digits,latent_size=3,hidden=[8],kl={kl}]").double()
    x = problem.observe(torch.from_numpy(problem.data.train[:4]), torch.Generator().manual_seed(2)).double()
    estimator = estimators.create(name).eval()
    encoder = list(problem.encoder.parameters())
    torch.manual_seed(4)
    whole = torch.autograd.grad(estimator(problem(x)).mean(), encoder)
    params = {name: value.detach().requires_grad_() for name, value in problem.encode(x).items()}
    torch.manual_seed(4)
    rows = torch.autograd.grad(estimator(problem.objective(params, x)).sum(), list(params.values()))
    chained = torch.autograd.grad(list(problem.encode(x).values()), encoder, [row / len(x) for row in rows])
    for first, second in zip(whole, chained, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", estimators.names())
def test_declared_facts_are_plain_and_complete(name):
    facts = estimators.describe(name)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["name"] == name
    assert len(facts["summary"].splitlines()) == 1
    assert facts["supports"]
    assert isinstance(facts["evaluations"], str) or facts["evaluations"] >= 1
    assert facts["reference"] is None or facts["reference"] in estimators.BIBTEX
    assert facts["documentation"]


ENTRY = "@article{me2026,\n  title = {Mine},\n  year = {2026}\n}"


def with_bibtex(bibtex, **attributes):
    """Register an estimator with an entry of its own."""
    facts = {"summary": "s", "supports": {"any"}, "unbiased": True, "needs_differentiable_f": False, "evaluations": 1}
    return estimators.register("mine")(type("Mine", (Estimator,), {**facts, "bibtex": bibtex, **attributes}))


@pytest.mark.parametrize("reference", [None, "me2026"])
def test_an_estimator_brings_its_own_entry(monkeypatch, reference):
    monkeypatch.setattr(estimators.ESTIMATORS, "_entries", dict(estimators.ESTIMATORS._entries))
    with_bibtex(f"\n{ENTRY}\n", reference=reference)
    facts = estimators.create("mine").facts()
    assert (facts["reference"], facts["bibtex"]) == ("me2026", ENTRY)


@pytest.mark.parametrize(
    ("bibtex", "reference", "key_words"),
    [
        ("me, 2026", None, "not one BibTeX entry"),
        ("", None, "not one BibTeX entry"),
        (ENTRY[:-1], None, "not closed"),
        (f"{ENTRY}\n{ENTRY.replace('me2026', 'you2026')}", None, "not one BibTeX entry"),
        (ENTRY.replace("Mine", "x" * 5000), None, "4,000 characters"),
        (ENTRY, "you2026", "'you2026'.*'me2026'"),
        (ENTRY.replace("me2026", "burda2016"), None, "another entry of the key 'burda2016'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_entry_that_could_not_be_cited_is_refused(monkeypatch, bibtex, reference, key_words):
    monkeypatch.setattr(estimators.ESTIMATORS, "_entries", dict(estimators.ESTIMATORS._entries))
    with pytest.raises(EstbenchError, match=key_words):
        with_bibtex(bibtex, reference=reference)


def test_a_plugin_of_a_few_lines_takes_part(toy, monkeypatch):
    """The example of the design document: registered by name, measured like the others."""
    monkeypatch.setattr(estimators.ESTIMATORS, "_entries", dict(estimators.ESTIMATORS._entries))

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
    assert estimators.create("reparam")(objective).shape == (3,)
