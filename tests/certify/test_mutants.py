"""A defect of a kind that released code has had fails a check, with a message that helps."""

from __future__ import annotations

import kinds
import mutants
import pytest

from estbench.certify import Subject, certificate, certify_subject

# The defect, the check that must see it, and what its message must say.
QUICK = [
    (mutants.DoublesTheDecoder, "decoder gradient", ["sum to 2", "f's own gradient is added twice"]),
    (mutants.LosesTheDecoder, "decoder gradient", ["sum to 0", "f is detached"]),
    (mutants.SumsOverTheBatch, "no cross-talk", ["example 0 was changed", "a sum over the batch"]),
    (mutants.MovesInEval, "frozen in eval mode", ["average moved in eval mode", "self.training"]),
    (mutants.SeesItsSample, "training mode", ["a baseline that has seen its sample"]),
    (mutants.HidesItsState, "save and load", ["register state as buffers"]),
    (mutants.SharesItsNoise, "noise of its own", ["all replicates and examples", "share their noise"]),
    (mutants.AveragesReplicates, "replicate dimensions", ["has shape ()", "(2,)", "mean(0)"]),
    (mutants.UndercountsF, "evaluations", ["declared evaluations = 2, made 4"]),
    (mutants.NeedsNoF, "differentiable f", ["needs_differentiable_f = True", "declare False"]),
    (mutants.Pathwise, "differentiable f", ["needs_differentiable_f = False", "declare True"]),
    (mutants.Doubles, "precision", ["torch.float32", "it gives torch.float64"]),
    (mutants.Raises, "decoder gradient", ["ValueError: no such luck (mutants.py, line"]),
    (mutants.StickingTheLandingIWAE, "exact mean", ["loc[", "expected", "measured", "Usual causes"]),
]
STATISTICAL = [
    (
        mutants.IncludesItself,
        "unbiased",
        ["expected", "measured", "times the exact gradient", "a baseline that has seen the sample"],
    ),
    (mutants.DetachedRebar, "unbiased", ["logits[", "expected", "z = ", "noise that is detached"]),
    (mutants.StickingTheLandingIWAE, "unbiased", ["expected", "measured", "z = "]),
    (mutants.DoublesTheDecoder, "unbiased", ["weights[", "2 times the exact gradient", "is added twice"]),
    (mutants.ClaimsABias, "declared bias", ["no bias was found", "declare True"]),
    (mutants.PlacesMatter, "order of the batch", ["turned around", "treat all places of a batch alike"]),
]


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Tensors this small are slower on two."""


def failures(mutant, *, quick):
    made = certify_subject(Subject(mutant.__name__, mutant), quick=quick)
    return made, {check.name: check.message for check in made.condensed().checks if check.outcome == "failed"}


@pytest.fixture
def only(monkeypatch):
    """Leave out all quick checks but one, for time."""

    def leave(name):
        for checks in ("QUICK", "ONCE"):
            known = getattr(certificate, checks)
            monkeypatch.setattr(certificate, checks, {each: known[each] for each in known if each == name})

    return leave


@pytest.mark.parametrize("mutant", [mutants.Rightful, mutants.Rebar])
def test_without_a_defect_nothing_fails(mutant):
    made, failed = failures(mutant, quick=True)
    assert failed == {}
    assert made.outcome == "passed"


@pytest.mark.parametrize(("mutant", "check", "said"), QUICK)
def test_a_defect_is_seen_without_sampling(mutant, check, said, only):
    only(check)
    made, failed = failures(mutant, quick=True)
    assert made.outcome == "failed"
    assert [words for words in said if words not in failed.get(check, "")] == []


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "check", "said"), STATISTICAL)
def test_a_defect_is_seen_by_sampling(mutant, check, said):
    made, failed = failures(mutant, quick=False)
    assert made.outcome == "failed"
    assert [words for words in said if words not in failed.get(check, "")] == []


@pytest.mark.parametrize(("mutant", "check"), kinds.QUICK)
def test_what_is_wrong_at_times_or_in_places_is_seen(mutant, check, only):
    only(check)
    assert check in failures(mutant, quick=True)[1]


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "check"), kinds.SAMPLED)
def test_what_is_wrong_at_times_or_in_places_is_seen_by_sampling(mutant, check):
    assert check in failures(mutant, quick=False)[1]


@pytest.mark.parametrize("mutant", kinds.RIGHT)
def test_what_is_right_though_odd_passes(mutant):
    assert failures(mutant, quick=True)[1] == {}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", kinds.RIGHT)
def test_what_is_right_though_odd_passes_by_sampling(mutant):
    """Each with a false alarm of 1e-4 for a certificate."""
    made, failed = failures(mutant, quick=False)
    assert failed == {}
    assert made.outcome == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [mutants.Rightful, mutants.Rebar])
def test_without_a_defect_the_whole_certificate_passes(mutant):
    assert failures(mutant, quick=False)[1] == {}


def test_what_one_check_raises_stops_no_other():
    made, failed = failures(mutants.Raises, quick=True)
    assert {"evaluations", "training mode", "save and load"} <= set(failed)
    assert "supports" not in failed
    assert all("\n" not in message for message in failed.values())
    assert len(made.complaints()) == len(failed)


def test_latents_without_a_setting_leave_it_undecided():
    class Counts(mutants.Rightful):
        supports = frozenset({"normal", "poisson"})

    made, failed = failures(Counts, quick=True)
    assert failed == {}
    assert made.outcome == "inconclusive"
    assert "no small problem with exact gradients for poisson (elbo)" in made.complaints()[0]
