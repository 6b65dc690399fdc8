"""The certificate of a problem: every shipped one passes, and each defect fails the check that is about it."""

from __future__ import annotations

import pytest
import torch
from mutants.odd_problems import ODD_BUT_CORRECT
from mutants.problem_defects import BITS, DEFECTS, NORMAL, ClaimsNormal, Correct

from estbench import problems
from estbench.certify import certify_problem
from estbench.certify.problem_certificate import CHECKS

# Each problem with its default options, the large ones made small, and with options that change what is checked.
SMALL = {name: f"{name}[dataset=digits,latent_size=2,hidden=[4]]" for name in ("vae", "hierarchical_vae")}
SHIPPED = [
    *(SMALL.get(name, name) for name in problems.names()),
    "gaussian_toy[cost=cosine,dimensions=3]",
    "bernoulli_toy[bits=4,target=0.5]",
    "linear_gaussian[dimensions=3,importance_samples=4]",
    "sbn_tiny[latents=categorical,latent_size=3]",
    "sbn_tiny[importance_samples=2,latent_size=4]",
    "vae[dataset=digits,latents=student-t,latent_size=3,hidden=[4]]",
    "vae[dataset=digits,latents=dirichlet,latent_size=2,categories=3,hidden=[]]",
    "vae[dataset=digits,latents=poisson,latent_size=3,hidden=[4]]",
    "vae[dataset=digits,latents=weibull,latent_size=2,hidden=[4],prior=learned]",
    "vae[dataset=digits,likelihood=gaussian,prior=learned,latent_size=3,hidden=[4]]",
    "hierarchical_vae[dataset=digits,latent_size=3,hidden=[],prior=learned]",
]
EXACT = ("toy", "sbn", "logistic", "linear_gaussian", "hierarchical")


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Tensors this small are slower on two."""


@pytest.fixture
def certify(plugin):
    """Register a class as `mutant`, and certify it; ``plugin`` forgets it after the test."""

    def certify(cls, options):
        problems.PROBLEMS._entries.pop("mutant", None)
        problems.register("mutant")(cls)
        return certify_problem(f"mutant[{options}]" if options else "mutant")

    return certify


def outcomes(certificate, outcome):
    return {check.name: check for check in certificate.checks if check.outcome == outcome}


@pytest.mark.slow_after(4)
@pytest.mark.parametrize("variant", SHIPPED)
def test_a_shipped_problem_passes(variant):
    certificate = certify_problem(variant)
    assert certificate.complaints() == []
    assert certificate.outcome == "passed"
    (exact,) = [check for check in certificate.checks if check.name == "exact objective"]
    known = any(word in variant for word in EXACT) and "importance_samples=4" not in variant
    assert (exact.outcome == "passed") == known


def test_torchs_random_state_is_left_as_it_was():
    state = torch.get_rng_state()
    certify_problem("bernoulli_toy")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("options", [BITS, NORMAL])
def test_without_a_defect_it_passes(certify, options):
    certificate = certify(Correct, options)
    assert certificate.complaints() == []
    assert certificate.outcome == "passed"
    assert [check.name for check in certificate.checks] == list(CHECKS)


@pytest.mark.slow_after(8)
@pytest.mark.parametrize(("defect", "options", "check", "words"), DEFECTS)
def test_a_defect_fails_the_check_that_is_about_it_and_no_other(certify, defect, options, check, words):
    certificate = certify(defect, options)
    failed = outcomes(certificate, "failed")
    assert list(failed) == [check], certificate.complaints()
    assert certificate.outcome == "failed"
    assert [word for word in words if word not in failed[check].message] == [], failed[check].message
    assert ";" in failed[check].message or "Usual causes" in failed[check].message  # it says what to do


def test_what_builds_on_a_defect_is_skipped_and_never_counts_as_passed(certify):
    certificate = certify(ClaimsNormal, BITS)
    later = list(CHECKS)[list(CHECKS).index("parameters") + 1 :]
    skipped = outcomes(certificate, "not applicable")
    assert list(skipped) == later
    assert all("skipped" in check.evidence and "'parameters'" in check.evidence for check in skipped.values())


@pytest.mark.slow_after(4)
@pytest.mark.parametrize(("odd", "options", "check", "words"), ODD_BUT_CORRECT)
def test_what_is_right_though_odd_passes_and_says_what_is_odd(certify, odd, options, check, words):
    certificate = certify(odd, options)
    assert certificate.complaints() == []
    assert certificate.outcome == "passed"
    (made,) = [each for each in certificate.checks if each.name == check]
    assert [word for word in words if word not in made.evidence] == [], made.evidence


class DropsInEvalMode(Correct):
    def encode(self, x):
        return super().encode(torch.nn.functional.dropout(x, 0.5))


def test_noise_that_stays_on_in_eval_mode_is_told(certify):
    (check,) = [each for each in certify(DropsInEvalMode, NORMAL).checks if each.name == "eval mode"]
    assert "the encoder draws noise in eval mode" in check.evidence
    (check,) = [each for each in certify(Correct, NORMAL).checks if each.name == "eval mode"]
    assert "noise" not in check.evidence
