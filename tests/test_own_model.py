"""The page on models is true: each part that it shows has a certificate, and does what is said of it."""

from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
import torch
from oracles.z_scores import largest_z
from pages import blocks, commands_of, python_of, text_of
from torch.distributions import Laplace, Normal

import estbench
from estbench import estimators, measure, problems
from estbench.certify import certify_problem
from estbench.cli import _exit_code
from estbench.execution.planning import load_isolated

pytestmark = pytest.mark.usefixtures("one_thread")

OWN_MODEL = text_of("docs/howto/own_model.md")
SMALL = "vae[dataset=digits,latent_size=2,{}]"
# The problems of the page on models, each with estimators that take it.
PARTS = {
    "small-conv": (SMALL.format("network=small-conv"), "reparam", "rloo"),
    "coupling": (SMALL.format("hidden=[8],posterior=coupling"), "stl", "reinforce"),
    "mixture": (SMALL.format("hidden=[8],posterior=mixture"), "rloo"),
    "vamp": (SMALL.format("hidden=[8],prior=vamp"), "reparam"),
    "logistic": (SMALL.format("hidden=[8],likelihood=logistic"), "reparam"),
    "laplace": (SMALL.format("hidden=[8],likelihood=laplace"), "reparam"),
    "together": (SMALL.format("hidden=[8],posterior=mixture,prior=vamp,likelihood=laplace"), "rloo"),
    "convolutional flow": (SMALL.format("network=small-conv,posterior=coupling,likelihood=logistic"), "stl", "rloo"),
    "counts": ("counts[latent_size=2]", "implicit", "rloo"),
}
LOOP = {"small-conv", "vamp", "together", "convolutional flow", "counts"}  # as the page says
LATER = {"together", "convolutional flow", "mixture", "logistic", "laplace"}
MOST_LINES = {"counts": 39}  # of an example; the others have 25
TINY = {
    "training": {"steps": 6, "batch_size": 8},
    "evaluation": {"points": 2, "examples": 8, "num_samples": 2},
    "probe": {"replicates": 4, "points": 1},
    "throughput": {"rounds": 0},
}


def lines_of(example):
    """Return the lines of an example without the empty ones."""
    return [line for line in example.splitlines() if line.strip()]


@pytest.fixture
def page(plugin):
    """What the page on models registers; zuko changes torch when it is imported, and that is set back."""
    load_isolated(plugin("mine.py", python_of(OWN_MODEL)))


def test_each_example_is_short():
    examples = [example for example in blocks(OWN_MODEL, "python") if "@register" in example]
    named = [re.search(r'@register\w*\("([a-z-]+)"', example)[1] for example in examples]
    assert named == ["small-conv", "coupling", "mixture", "vamp", "logistic", "laplace", "counts"]
    for name, example in zip(named, examples, strict=True):
        assert len(lines_of(example)) <= MOST_LINES.get(name, 25), name


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LATER)) for name in PARTS])
@pytest.mark.usefixtures("page")
def test_each_part_has_a_certificate_and_runs(name, tmp_path):
    problem, *named = PARTS[name]
    certificate = certify_problem(problem)
    assert certificate.outcome == "passed", "\n".join(certificate.complaints())
    (probed,) = [check.evidence for check in certificate.checks if check.name == "probe"]
    assert ("by the loop, because" in probed) == (name in LOOP), probed
    results = estbench.run({"estimators": named, "problems": [problem], **TINY}, out=tmp_path / "results")
    assert results.cells["status"].tolist() == ["done"] * len(named), results.cells["stop_reason"].tolist()
    remarks = [remark["message"] for record in results.records.values() for remark in record["remarks"]]
    assert bool(remarks) == (name in LOOP), remarks
    assert all("takes one backward call per replicate" in remark for remark in remarks)
    bounds = results.curves.query("metric == 'elbo'")["value"]
    assert np.isfinite(bounds).all()
    variances = results.gradients.query("statistic == 'variance' and space == 'weights'")
    assert {"encoder", "decoder"} <= set(variances["group"])
    assert ("prior" in set(variances["group"])) == ("vamp" in problem)


@pytest.mark.usefixtures("page")
def test_the_words_of_cards():
    cards = {
        name: problems.PROBLEMS.resolve(SMALL.format(f"likelihood={name}")).card for name in ("logistic", "laplace")
    }
    cards["gaussian"] = problems.PROBLEMS.resolve(SMALL.format("likelihood=gaussian")).card
    assert cards["laplace"] == cards["gaussian"] != cards["logistic"]
    assert "levels" in cards["logistic"]


@pytest.mark.usefixtures("page")
def test_the_logistic_masses_of_all_levels_sum_to_one():
    problem = problems.create(SMALL.format("likelihood=logistic,hidden=[8]")).double()
    levels = torch.arange(256).double()[:, None] / 255
    for mean, log_scale in [(0.3, -2.0), (0.999, -5.0), (-0.5, 0.0), (0.5, -8.0)]:
        outputs = torch.tensor([mean, log_scale]).double().expand(1, 256, 2)
        masses = problem.likelihood(outputs, levels)
        assert masses.shape == (1, 256)
        assert masses.isfinite().all()
        assert float(masses.exp().sum()) == pytest.approx(1, abs=1e-9)
    x = problem.observe(torch.rand(5, 64), torch.Generator())
    assert torch.equal((255 * x).round() / 255, x)


@pytest.mark.usefixtures("page")
def test_the_densities_of_laplace_noise_and_of_the_vamp_prior():
    problem = problems.create(SMALL.format("likelihood=laplace,prior=vamp[inputs=7],hidden=[8]"))
    x, z = torch.from_numpy(problem.data.train[:5]), torch.randn(3, 5, 2)
    objective = problem(x)
    expected = Laplace(problem.decoder(z), problem.likelihood.log_scale.exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(objective.bound_terms(z).log_likelihood, expected)
    params = problem.encode(problem.prior.inputs)
    components = Normal(params["loc"], params["log_scale"].exp()).log_prob(z[..., None, :]).sum(-1)
    torch.testing.assert_close(objective.prior.log_prob(z), components.logsumexp(-1) - math.log(7))
    assert objective.samples_kl


@pytest.mark.usefixtures("page")
def test_the_density_that_stl_differentiates_holds_the_weights_of_a_flow():
    """``frozen_q`` against the same flow whose weights need no gradient."""
    torch.manual_seed(0)
    problem = problems.create(SMALL.format("hidden=[4],posterior=coupling")).double()
    x = torch.from_numpy(problem.data.train[:3]).double()
    objective = problem(x)
    z = objective.q.rsample((4,))
    weights = [*problem.encoder.parameters(), *problem.posterior.parameters()]
    held = copy.deepcopy(problem.posterior).requires_grad_(requires_grad=False)
    expected = held.family({name: value.detach() for name, value in objective.params.items()}).log_prob(z)
    found = objective.frozen_q().log_prob(z)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        *(torch.autograd.grad(each.sum(), weights, retain_graph=True) for each in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other)
    assert not objective.frozen_q().log_prob(z.detach()).requires_grad


@pytest.mark.slow
@pytest.mark.usefixtures("page")
def test_estimators_agree_on_a_flow():
    """Pairs of mean gradients by z-scores of all weights, those of the flow too; the false alarm is 1e-4 in all."""
    torch.manual_seed(0)
    problem = problems.create(SMALL.format("hidden=[4],posterior=coupling[layers=2,context=4]")).double().eval()
    x = torch.from_numpy(problem.data.train[:2]).double().round().repeat(200, 1)
    weights = [*problem.parameters()]
    means, errors = [], []
    for name in ("reparam", "stl", "rloo", "reinforce"):
        estimator = estimators.create_for(name, problem).eval()
        rows = []
        for _ in range(1000):
            surrogate = estimator(problem(x)).mean()
            rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(surrogate, weights)]))
        drawn = torch.stack(rows)
        means.append(drawn.mean(0))
        errors.append(drawn.std(0) / math.sqrt(len(drawn)))
    assert min(float(mean[-weights[-1].numel() :].norm()) for mean in means) > 0
    pairs = [(first, second) for first in range(4) for second in range(first)]
    limit = largest_z(tests=len(pairs) * len(means[0]))
    for first, second in pairs:
        error = (errors[first].square() + errors[second].square()).sqrt()
        live = error > 0  # a unit that no input reaches has no gradient
        assert torch.equal(means[first][~live], means[second][~live])
        assert float(((means[first] - means[second])[live] / error[live]).abs().max()) < limit
    # Without the noise of score functions: a bias of 1 % of the length would show.
    assert 5 * float((errors[0].square() + errors[1].square()).sum().sqrt()) < 0.02 * float(means[0].norm())


@pytest.mark.slow
@pytest.mark.usefixtures("page")
def test_the_probe_of_a_flow_is_the_same_by_both_paths():
    torch.manual_seed(0)
    problem = problems.create(SMALL.format("hidden=[4],posterior=coupling[layers=2,context=4]"))
    batch = torch.from_numpy(problem.data.train[:4]).round()
    fast, loop = (
        measure.probe(problem, estimators.create_for("stl", problem), batch, 300, seed=0, path=path)
        for path in ("fast", "loop")
    )
    for group in ("encoder", "decoder"):
        first, second = (
            moments.table.query("space == 'weights' and statistic == 'variance'").set_index("group").loc[group]
            for moments in (fast, loop)
        )
        assert first["low"] < second["high"]
        assert second["low"] < first["high"]


def test_what_cannot_be_differentiated_is_refused_in_the_words_of_the_page(page, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (refused,) = [arguments for arguments in commands_of(OWN_MODEL) if "posterior=mixture" in " ".join(arguments)]
    assert _exit_code(refused) == 2
    (shown,) = blocks(OWN_MODEL, "text")
    assert capfd.readouterr().err.splitlines()[-1] == shown.strip()
    for estimator in ("antithetic", "disarm"):
        with pytest.raises(estbench.EstbenchError, match=f"estimator '{estimator}' requires"):
            estimators.create_for(estimator, problems.create(SMALL.format("hidden=[8],posterior=coupling")))


@pytest.mark.usefixtures("page")  # first, because not all commands set back what zuko changes
def test_its_commands_run(tmp_path, monkeypatch, capfd):
    """Those that train are only planned; those that check are in other tests."""
    monkeypatch.chdir(tmp_path)
    np.savez("faces.npz", images=np.random.default_rng(0).integers(0, 256, (30, 3, 4, 4), dtype=np.uint8))
    wanted = [arguments for arguments in commands_of(OWN_MODEL) if arguments[0] != "check"]
    assert len(wanted) > 8
    for arguments in wanted:
        assert _exit_code([*arguments, *(["--dry-run"] if arguments[0] == "run" else [])]) == 0, capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("arguments", [each for each in commands_of(OWN_MODEL) if each[0] == "check"], ids=" ".join)
def test_its_checks_pass(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _exit_code(arguments) == 0
