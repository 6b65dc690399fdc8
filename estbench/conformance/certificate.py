"""The certificate of an estimator: every check, in every setting that it declares to be for."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator

import torch

from estbench import __version__, estimators
from estbench.conformance import contract, enumeration, facts, known, unbiasedness
from estbench.conformance.settings import Setting
from estbench.conformance.subject import Subject
from estbench.conformance.verdict import Verdict
from estbench.store.certificates import Certificate, Check, Outcome, fingerprint, worst

PerSetting = Callable[[Subject, Setting], Verdict]

# In the order in which they are shown. What is quick and has no chance in its verdict is tested with every change.
QUICK: dict[str, PerSetting] = {
    "evaluations": facts.evaluations,
    "differentiable f": facts.differentiable_f,
    "replicate dimensions": contract.replicates,
    "noise of its own": contract.own_noise,
    "no cross-talk": contract.cross_talk,
    "decoder gradient": contract.decoder,
    "frozen in eval mode": contract.frozen,
    "training mode": contract.training_mode,
    "precision": contract.precision,
    "deterministic": contract.deterministic,
    "devices": contract.devices,
    "save and load": contract.save_and_load,
}
EXACT_MEAN = "exact mean"
UNBIASED = "unbiased"
BIASED = "declared bias"


def certify(variant: str, *, quick: bool = False) -> Certificate:
    """Check a registered estimator, ``name[option=value,...]``; ``quick`` leaves out what is sampled at length."""
    label = estimators.REGISTRY.resolve(variant).label
    return certify_subject(Subject(label, lambda: estimators.create(label)), quick=quick)


def variants(name: str) -> list[str]:
    """The choices of options of an estimator that have a certificate each, by label: the defaults, then others."""
    cls = estimators.REGISTRY.get(name)
    return [estimators.REGISTRY.resolve(variant).label for variant in (name, *cls.variants)]


def certify_subject(subject: Subject, *, quick: bool = False) -> Certificate:
    """Check an estimator that need not be registered."""
    started = time.perf_counter()
    checks = tuple(_checks(subject, quick=quick))
    outcome = worst(list(checks)).outcome
    return Certificate(
        label=subject.label,
        fingerprint=fingerprint(type(subject.facts)),
        outcome=outcome,
        bias=next((check.numbers["bias"] for check in checks if check.name == BIASED and check.numbers), None),
        versions={"estbench": __version__, "torch": str(torch.__version__)},
        seconds=round(time.perf_counter() - started, 1),
        checks=checks,
    )


def _checks(subject: Subject, *, quick: bool) -> Iterator[Check]:
    yield _attempt("supports", "", lambda: facts.supports(subject))
    per_setting = dict(QUICK)
    if subject.facts.unbiased:
        per_setting[EXACT_MEAN] = enumeration.exact_mean
    if not quick:
        per_setting["order of the batch"] = contract.permutation
        if subject.facts.unbiased:
            per_setting[UNBIASED] = unbiasedness.unbiased
    for name, check in per_setting.items():
        for setting in subject.settings:
            yield _attempt(name, setting.name, lambda check=check, setting=setting: check(subject, setting))  # type: ignore[misc]
    if not quick and not subject.facts.unbiased:
        yield _attempt(BIASED, "", lambda: facts.biased(subject))
    for fact in [] if quick else known.facts_of(subject.label):
        yield _attempt(fact.kind, fact.claim, lambda fact=fact: fact.check(subject))  # type: ignore[misc]


def _attempt(name: str, setting: str, check: Callable[[], Verdict]) -> Check:
    """A check as a record; what an estimator raises is a failure of its own, and never stops the others."""
    try:
        found = check()
    except Exception as error:  # noqa: BLE001  (an estimator is anybody's code)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({frame.filename.rpartition('/')[2]}, line {frame.lineno})"
        found = Verdict(Outcome.FAILED, "it raised an error", " ".join(message.split()))
    finite = {key: float(number) for key, number in found.numbers.items() if abs(number) < float("inf")}
    strain = min(found.strain, 1e300) if found.strain == found.strain else 1e300  # noqa: PLR0124  (a NaN is no number)
    return Check(
        name=name,
        setting=setting,
        outcome=found.outcome,
        evidence=found.evidence,
        message=found.message,
        strain=float(strain),
        numbers=finite,
    )
