"""A defect of a kind that released code has had fails a check, with a message that helps."""

from __future__ import annotations

import pytest
from mutants import defects, hidden_defects
from mutants.base import Correct
from mutants.odd_but_correct import ODD_BUT_CORRECT

from estbench.certify import EstimatorUnderTest, certificate, certify_estimator
from estbench.certify.checks.unbiasedness import FIRST_DRAWS, run_bias_tests

# The defect, the check that must see it, and what its message must say.
QUICK = [
    (defects.DoublesTheDecoder, "decoder gradient", ["sum to 2", "f's own gradient is added twice"]),
    (defects.LosesTheDecoder, "decoder gradient", ["sum to 0", "f is detached"]),
    (defects.SumsOverTheBatch, "no cross-talk", ["example 0 was changed", "a sum over the batch"]),
    (defects.MovesInEval, "frozen in eval mode", ["average changed in eval mode", "self.training"]),
    (defects.SeesItsSample, "training mode", ["a baseline that has seen its sample"]),
    (defects.HidesItsState, "save and load", ["register state as buffers"]),
    (defects.SharesItsNoise, "noise of its own", ["all replicates and examples", "share their noise"]),
    (defects.AveragesReplicates, "a call", ["returned shape ()", "(2,)", "one real number per example"]),
    (defects.FlattensReplicates, "replicate dimensions", ["has shape (12,)", "(6, 2)", "mean(0)"]),
    (defects.UndercountsF, "evaluations", ["declared evaluations = 2, made 4"]),
    (defects.NeedsNoF, "differentiable f", ["needs_differentiable_f = True", "declare False"]),
    (defects.Pathwise, "differentiable f", ["needs_differentiable_f = False", "declare True"]),
    (defects.Doubles, "precision", ["torch.float32", "it gives torch.float64"]),
    (defects.Raises, "a call", ["ValueError: no such luck (defects.py, line"]),
    (defects.StickingTheLandingIWAE, "exact mean", ["loc[", "expected", "measured", "Usual causes"]),
]
STATISTICAL = [
    (
        defects.IncludesItself,
        "unbiased",
        ["expected", "measured", "times the exact gradient", "a baseline that has seen the sample"],
    ),
    (defects.DetachedRebar, "unbiased", ["logits[", "expected", "z = ", "noise that is detached"]),
    (defects.StickingTheLandingIWAE, "unbiased", ["expected", "measured", "z = "]),
    (defects.DoublesTheDecoder, "unbiased", ["weights[", "2 times the exact gradient", "is added twice"]),
    (defects.ClaimsABias, "declared bias", ["no bias", "was found", "declare True"]),
    (defects.PlacesMatter, "order of the batch", ["reversed order", "treat all places of a batch alike"]),
]


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Tensors this small are slower on two."""


def failures(mutant, *, quick):
    made = certify_estimator(EstimatorUnderTest(mutant.__name__, mutant), quick=quick)
    return made, {check.name: check.message for check in made.condensed().checks if check.outcome == "failed"}


@pytest.fixture
def only(monkeypatch):
    """Leave out all quick checks but one, for time."""

    def leave(name):
        for checks in ("QUICK", "ONCE"):
            known = getattr(certificate, checks)
            monkeypatch.setattr(certificate, checks, {each: known[each] for each in known if each == name})

    return leave


@pytest.mark.parametrize("mutant", [Correct, defects.Rebar])
def test_without_a_defect_nothing_fails(mutant):
    made, failed = failures(mutant, quick=True)
    assert failed == {}
    assert made.outcome == "passed"


@pytest.mark.slow_after(5)
@pytest.mark.parametrize(("mutant", "check", "words"), QUICK)
def test_a_defect_is_seen_without_sampling(mutant, check, words, only):
    only(check)
    made, failed = failures(mutant, quick=True)
    assert made.outcome == "failed"
    assert [word for word in words if word not in failed.get(check, "")] == []


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "check", "words"), STATISTICAL)
def test_a_defect_is_seen_by_sampling(mutant, check, words):
    made, failed = failures(mutant, quick=False)
    assert made.outcome == "failed"
    assert [word for word in words if word not in failed.get(check, "")] == []


@pytest.mark.slow_after(5)
@pytest.mark.parametrize(("mutant", "check"), hidden_defects.QUICK)
def test_what_is_wrong_at_times_or_in_places_is_seen(mutant, check, only):
    only(check)
    assert check in failures(mutant, quick=True)[1]


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "check"), hidden_defects.SAMPLED)
def test_what_is_wrong_at_times_or_in_places_is_seen_by_sampling(mutant, check):
    assert check in failures(mutant, quick=False)[1]


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("mutant", ODD_BUT_CORRECT)
def test_what_is_right_though_odd_passes(mutant):
    assert failures(mutant, quick=True)[1] == {}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ODD_BUT_CORRECT)
def test_what_is_right_though_odd_passes_by_sampling(mutant):
    """Each with a false alarm of 1e-4 for a certificate."""
    made, failed = failures(mutant, quick=False)
    assert failed == {}
    assert made.outcome == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [Correct, defects.Rebar])
def test_without_a_defect_the_whole_certificate_passes(mutant):
    assert failures(mutant, quick=False)[1] == {}


def test_what_raises_is_called_once_on_each_problem_and_told_once():
    made, failed = failures(defects.Raises, quick=True)
    assert set(failed) == {"a call"}
    assert "supports" in {check.name for check in made.checks}
    assert all("\n" not in message for message in failed.values())
    assert len(made.complaints()) == 1


class Scalar(Correct):
    def forward(self, objective):
        return super().forward(objective).mean()


class WithSamples(Correct):
    def forward(self, objective):
        return super().forward(objective).expand(2, *objective.batch_shape)


class Loss(Correct):
    def forward(self, objective):
        return -super().forward(objective)


@pytest.mark.parametrize("mutant", [Scalar, WithSamples])
def test_what_returns_another_shape_is_told_so_and_nothing_else(mutant):
    _, failed = failures(mutant, quick=True)
    assert set(failed) == {"a call"}
    assert "one real number per example" in failed["a call"]


def test_a_wrong_mean_comes_first_and_its_causes_once():
    made, _ = failures(Loss, quick=True)
    first, *others = made.complaints()
    assert first.startswith("exact mean failed")
    assert "its sign" in first
    assert not [line for line in others if "its sign" in line]


def test_a_mean_that_is_wrong_beyond_doubt_ends_the_sampling_early():
    """The opposite of the exact gradient, with a variance that asks for many draws."""
    tested = EstimatorUnderTest("noisy", Loss)
    problem = tested.problems[0]
    tests = run_bias_tests(tested.prepared(problem), problem, tested.coordinates, to_the_end=False)
    assert {test.replicates for test in tests} == {FIRST_DRAWS}
    assert not any(test.unbiased for test in tests)
