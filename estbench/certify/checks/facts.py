"""Declared facts, put to the test."""

from __future__ import annotations

import dataclasses

from estbench.certify.checks import enumeration
from estbench.certify.checks.unbiasedness import DETECTABLE, bias_tests
from estbench.certify.record import Outcome
from estbench.certify.sampling import Gradients, distance, gradients
from estbench.certify.settings import settings_for
from estbench.certify.settings.base import Setting
from estbench.certify.subject import Subject
from estbench.certify.verdict import Verdict, verdict
from estbench.estimators.requirements import ANY, REPARAMETERIZED, families
from estbench.randomness import seeded

REPLICATES = 5
SEEDS = 12
ROUNDING = 1e-10  # of the gradient's norm
# Draws by which the bias of one that is declared biased is usually seen.
GLANCE = 100_000


def supports(subject: Subject) -> Verdict:
    """There is something to prove it on, for all latents and objectives that it declares."""
    facts = subject.facts
    pairs = [(latents, bound) for latents in sorted(families(facts.supports)) for bound in sorted(facts.bounds)]
    # What requires no family is proved on those that there are.
    by_name = sorted(facts.supports - {ANY, REPARAMETERIZED})
    named = [(latents, bound) for latents in by_name for bound in sorted(facts.bounds)]
    missing = [f"{latents} ({bound})" for latents, bound in named if not settings_for({latents}, {bound})]
    if missing:
        said = f"no small problem with exact gradients for {', '.join(missing)}: nothing is proved there"
        return Verdict(Outcome.INCONCLUSIVE, f"{len(subject.settings)} settings", said)
    listed = ", ".join(f"{latents} ({bound})" for latents, bound in pairs if settings_for({latents}, {bound}))
    return verdict(True, f"{listed}: {len(subject.settings)} settings")


def evaluations(subject: Subject, setting: Setting) -> Verdict:
    """The calls of f are as many as declared, in training and in a probe."""
    estimator = subject.prepared(setting)
    made = {}
    for training in (False, True):
        for replicates in ((), (REPLICATES,)):
            objective = setting.objective(setting.leaves(*replicates))
            declared = estimator.count_evaluations(objective)
            with seeded(2, setting.weights.device):
                estimator.train(training)(objective)
            made[training, replicates] = objective.evaluations / objective.batch_shape.numel()
    wrong = [count for count in made.values() if count != declared]
    return verdict(
        not wrong,
        f"{declared} calls of f per example and step",
        f"declared evaluations = {declared}, made {wrong[0] if wrong else declared:g} per example and step:"
        " each sample of each example that f is called for counts, those of a control variate too",
        declared=declared,
    )


def differentiable_f(subject: Subject, setting: Setting) -> Verdict:
    """Where it declares to need no derivative of f, it gives the same without one; where it needs one, it does not."""
    needs = subject.facts.needs_differentiable_f
    cut = dataclasses.replace(setting, integrand=lambda z, w: setting.integrand(z.detach(), w))
    try:
        # Under several seeds where it needs one: a coin may decide whether it uses it.
        same = all(
            distance(_few(subject, setting, seed), _few(subject, cut, seed), setting) <= ROUNDING
            for seed in range(SEEDS if needs else 1)
        )
    except RuntimeError:  # autograd's: f is asked for a derivative that is not there
        same = False
    declared = "needs" if needs else "needs no"
    return verdict(
        same != needs,
        f"{declared} derivative of f with respect to z: the gradient {'is the same' if same else 'changes'} without it",
        f"declared needs_differentiable_f = {needs}, but with the derivative of f with respect to z cut the gradient"
        f" {'is the same' if same else 'is another, or fails'}; declare {not needs}",
    )


def biased(subject: Subject) -> Verdict:
    """A bias that is declared shows in some setting, and this is its size.

    Where the noise can be enumerated the bias is known exactly; elsewhere it is sampled, at first with a few draws.
    """
    sizes: list[tuple[float, str, str]] = []
    unseen = []
    for setting in subject.settings:
        estimator = subject.prepared(setting)
        found = enumeration.expectation(estimator, setting)
        if found is not None:
            if enumeration.compare(found.mean, setting, "").outcome is Outcome.FAILED:
                exact = setting.exact()
                size = max(float((found.mean[g] - exact[g]).norm()) / setting.scale(g) for g in exact)
                sizes.append((size, setting.name, f"enumerated over {found.tuples:,} tuples of draws"))
            continue
        tests = bias_tests(estimator, setting, subject.coordinates, most=GLANCE)
        if all(test.unbiased for test in tests):
            unseen.append(setting)
        sizes += [
            (test.bias, setting.name, f"z = {test.z:.1f}, bound {test.threshold:.2f}, n = {test.replicates:,}")
            for test in tests
            if not test.unbiased
        ]
    if not sizes:
        for setting in unseen:
            tests = bias_tests(subject.prepared(setting), setting, subject.coordinates)
            sizes += [(test.bias, setting.name, f"z = {test.z:.1f}") for test in tests if not test.unbiased]
    if not sizes:
        said = f"declared unbiased = False, and no bias was found that is above {DETECTABLE:.0%}; declare True"
        return verdict(False, f"{len(subject.settings)} settings", said)
    size, where, how = max(sizes)
    places = len({name for _, name, _ in sizes})
    evidence = f"bias {size:.3g} of the gradient in '{where}' ({how}); seen in {places} of {len(subject.settings)}"
    return verdict(True, evidence, bias=size)


def _few(subject: Subject, setting: Setting, seed: int) -> Gradients:
    with seeded(seed, setting.weights.device):
        return gradients(subject.prepared(setting), setting, REPLICATES)
