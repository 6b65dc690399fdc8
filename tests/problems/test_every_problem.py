"""What every registered problem must hold to: it is tested by being registered."""

from __future__ import annotations

import json

import pytest
import torch

import estbench
from estbench import estimators, measure, problems

# The default options of each, and further ones that change what is computed; the slow flagship is made small.
SMALL = {
    name: f"{name}[dataset=digits,latent_size=2,hidden=[4]]" for name in ("vae", "hierarchical_vae", "half_images")
}
EXTRA = (
    "gaussian_toy[cost=cosine,dimensions=3]",
    "bernoulli_toy[bits=4,power=1.5]",
    "linear_gaussian[dimensions=3,importance_samples=4]",
    "sbn_tiny[latents=categorical]",
    "sbn_tiny[importance_samples=2]",
    "vae[dataset=digits,latents=bernoulli,latent_size=3,hidden=[]]",
    "vae[dataset=digits,likelihood=gaussian,latent_size=3,hidden=[4]]",
    "hierarchical_vae[dataset=digits,latent_size=3,hidden=[],prior=learned]",
    "bayesian_mlp[hidden=[3,2],minibatch=8]",
    "eight_schools[parametrization=centered]",
    "half_images[dataset=digits,latents=categorical,latent_size=2,categories=3,hidden=[],importance_samples=3]",
    "hierarchical_vae[dataset=digits,latent_size=3,hidden=[4],latents=normal,importance_samples=3]",
)
VARIANTS = [*(SMALL.get(name, name) for name in problems.names()), *EXTRA]


def suitable(variant):
    """An unbiased estimator of each kind for the problem's latents and objective."""
    cls, options = problems.PROBLEMS.get(variant.partition("[")[0]), problems.PROBLEMS.options(variant)
    latents, bound = cls.latents_of(options), cls.bound_of(options)
    if bound == "multi-sample":
        return ["dreg", "vimco"] if latents == "normal" else ["vimco"]
    return ["reparam", "rloo"] if latents == "normal" else ["rloo"]


@pytest.mark.slow_after(5)
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_runs_and_leaves_finite_curves_and_gradients(variant, tiny, tmp_path, one_thread):
    chosen = suitable(variant)
    results = estbench.run({**tiny, "problems": [variant], "estimators": chosen}, out=tmp_path / "r")
    assert results.cells.status.eq("done").all()
    assert results.curves.value.notna().all()
    assert {"elbo", "iwae"} <= set(results.curves.metric)
    assert set(results.gradients.space) == {"params", "weights"}
    assert results.gradients[results.gradients.statistic == "variance"].value.ge(0).all()
    assert results.cells.estimator.nunique() == len(chosen)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_can_be_probed_without_being_changed(variant):
    torch.manual_seed(1)
    problem = problems.create(variant).double()
    x = problem.observe(torch.from_numpy(problem.data.train[:4]), torch.Generator().manual_seed(2)).double()
    before = [weight.clone() for weight in problem.parameters()]
    for name in suitable(variant):
        table = measure.probe(problem, estimators.create_for(name, problem), x, replicates=10).table
        assert set(table[table.space == "weights"].group) == set(problem.groups())
        assert table[table.statistic == "variance"].value.notna().all()
    assert all(map(torch.equal, before, problem.parameters()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_groups_hold_every_weight_exactly_once(variant):
    problem = problems.create(variant)
    grouped = [id(weight) for weights in problem.groups().values() for weight in weights]
    assert sorted(grouped) == sorted(id(weight) for weight in problem.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_objectives_have_any_batch_dimensions_in_the_precision_of_the_weights(variant, dtype):
    problem = problems.create(variant).to(dtype)
    x = problem.observe(torch.from_numpy(problem.data.train[:4]), torch.Generator().manual_seed(2)).to(dtype)
    params = {name: value.expand(3, *value.shape) for name, value in problem.encode(x).items()}
    objective = problem.objective(params, x)
    z = objective.q.sample((2,))
    with torch.no_grad():
        values = objective.f(z), objective.log_weight(z)
    for value in values:
        assert value.shape == (2, 3, 4)
        assert value.dtype == dtype
    assert objective.kl().shape == (3, 4)
    calls = 2 if getattr(objective, "layered", False) else 1
    assert objective.evaluations == calls * 2 * 2 * 3 * 4


@pytest.mark.parametrize("name", problems.names())
def test_facts_are_plain_and_complete(name):
    facts = problems.describe(name)
    assert json.loads(json.dumps(facts)) == facts
    assert len(facts["summary"].splitlines()) == 1
    assert facts["documentation"]
