"""The certificate of an estimator: every check, in every setting that it declares to be for."""

from __future__ import annotations

import dataclasses
import itertools
import math
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from estbench._version import __version__
from estbench.certify import known
from estbench.certify.checks import calls, contract, enumeration, facts, shapes, unbiasedness
from estbench.certify.record import Certificate, Check, Outcome, worst
from estbench.certify.settings.base import EXAMPLES, Setting
from estbench.certify.subject import Subject
from estbench.certify.verdict import Verdict
from estbench.estimators import ESTIMATORS
from estbench.estimators import create as create_estimator
from estbench.plugins import load_plugin
from estbench.processes import end_with_parent, started_without_script, usable_cores
from estbench.source import fingerprint

PerSetting = Callable[[Subject, Setting], Verdict]
Part = tuple[tuple[Check, ...], float]

# In the order in which they are shown. What is quick and has no chance in its verdict is tested with every change.
QUICK: dict[str, PerSetting] = {
    "evaluations": facts.evaluations,
    "differentiable f": facts.differentiable_f,
    "replicate dimensions": contract.replicates,
    "noise of its own": calls.own_noise,
    "no cross-talk": contract.cross_talk,
    "decoder gradient": contract.decoder,
    "prior gradient": contract.prior,
    "frozen in eval mode": contract.frozen,
    "training mode": contract.training_mode,
    "precision": contract.precision,
    "deterministic": contract.deterministic,
    "devices": contract.devices,
    "save and load": contract.save_and_load,
}
# What does not depend on the very integrand, in one setting of each kind.
ONCE: dict[str, PerSetting] = {
    "no memory of calls": calls.no_memory,
    "batch sizes": shapes.batch_sizes,
    "large f": shapes.large_f,
}
BIASED = "declared bias"
SINGLY = 2  # kinds of settings in which examples come one at a time
# Fewer settings than this are not worth the start of another process.
PARTS_EACH = 5
WORKER = "SpawnProcess"  # the name that multiprocessing gives to what a pool starts


def certify(variant: str, *, quick: bool = False) -> Certificate:
    """Check a registered estimator, ``name[option=value,...]``; ``quick`` leaves out what is sampled at length."""
    return certify_subject(_registered(ESTIMATORS.resolve(variant).label), quick=quick)


def certify_subject(subject: Subject, *, quick: bool = False) -> Certificate:
    """Check an estimator that need not be registered."""
    subject = dataclasses.replace(subject, late=not quick)
    return _certificate(subject, [_part(subject, setting, quick=quick) for setting in (None, *subject.settings)])


def certify_each(labels: Sequence[str], plugins: Iterable[str] = ()) -> Iterator[Certificate]:
    """Certificates one after the other; where there is much to do, made by a process for each core that may be used.

    Each process has one thread and loads the ``plugins``.
    """
    subjects = [_registered(label) for label in labels]
    parts = [(subject.label, at) for subject in subjects for at in range(len(subject.settings) + 1)]
    workers = min(len(parts) // PARTS_EACH, usable_cores())
    if workers <= 1:
        yield from map(certify_subject, subjects)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker, (tuple(plugins),)) as pool:
        with started_without_script(WORKER):
            done = pool.map(_numbered_part, parts)
        for subject in subjects:
            yield _certificate(subject, list(itertools.islice(done, len(subject.settings) + 1)))


def variants(name: str) -> list[str]:
    """The choices of options of an estimator that have a certificate each, by label: the defaults, then others."""
    cls = ESTIMATORS.get(name)
    return [ESTIMATORS.resolve(variant).label for variant in (name, *cls.variants)]


def _registered(label: str) -> Subject:
    return Subject(label, lambda: create_estimator(label))


def _start_worker(plugins: tuple[str, ...]) -> None:
    end_with_parent()  # its queue would never tell it
    torch.set_num_threads(1)
    for plugin in plugins:
        load_plugin(plugin)


def _numbered_part(part: tuple[str, int]) -> Part:
    label, at = part
    subject = _registered(label)
    return _part(subject, (None, *subject.settings)[at], quick=False)


def _part(subject: Subject, setting: Setting | None, *, quick: bool) -> Part:
    """The checks in one setting, or those of the estimator as a whole; and the seconds that they took."""
    started = time.perf_counter()
    checks = _in_setting(subject, setting, quick=quick) if setting else _as_a_whole(subject, quick=quick)
    return tuple(checks), time.perf_counter() - started


def _certificate(subject: Subject, parts: Iterable[Part]) -> Certificate:
    found, seconds = zip(*parts, strict=True)
    checks = tuple(itertools.chain.from_iterable(found))
    return Certificate(
        label=subject.label,
        fingerprint=fingerprint(type(subject.facts)),
        outcome=worst(list(checks)).outcome,
        bias=next((check.numbers["bias"] for check in checks if check.name == BIASED and check.numbers), None),
        versions={"estbench": __version__, "torch": str(torch.__version__)},
        seconds=round(sum(seconds), 1),
        checks=checks,
    )


def _as_a_whole(subject: Subject, *, quick: bool) -> Iterator[Check]:
    yield _attempt("supports", "", lambda: facts.supports(subject))
    if quick:
        return
    if not subject.facts.unbiased:
        yield _attempt(BIASED, "", lambda: facts.biased(subject))
    for fact in known.facts_of(subject.label):
        yield _attempt(fact.kind, fact.claim, lambda fact=fact: fact.check(subject))  # type: ignore[misc]


def _in_setting(subject: Subject, setting: Setting, *, quick: bool) -> Iterator[Check]:
    checks = dict(QUICK)
    if subject.facts.unbiased:
        checks["exact mean"] = enumeration.exact_mean
    representative = any(setting is each for each in subject.representatives)
    if representative:
        checks |= ONCE
    if not quick:
        checks["as in a probe"] = unbiasedness.in_a_probe
        if representative or setting.examples > EXAMPLES:
            checks["order of the batch"] = contract.permutation
        if representative:
            checks["independent calls"] = calls.independent
        if any(setting is each for each in subject.representatives[:SINGLY]):
            checks["one example at a time"] = unbiasedness.one_by_one
        if subject.facts.unbiased:
            checks[unbiasedness.CHECK] = unbiasedness.unbiased
    for name, check in checks.items():
        yield _attempt(name, setting.name, lambda check=check: check(subject, setting))  # type: ignore[misc]


def _attempt(name: str, setting: str, check: Callable[[], Verdict]) -> Check:
    """A check as a record; what an estimator raises is a failure of its own, and never stops the others."""
    try:
        found = check()
    except Exception as error:  # noqa: BLE001  (an estimator is anybody's code)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({frame.filename.rpartition('/')[2]}, line {frame.lineno})"
        found = Verdict(Outcome.FAILED, "it raised an error", " ".join(message.split()))
    finite = {key: float(number) for key, number in found.numbers.items() if math.isfinite(number)}
    strain = found.strain if math.isfinite(found.strain) else 1e300
    return Check(
        name=name,
        setting=setting,
        outcome=found.outcome,
        evidence=found.evidence,
        message=found.message,
        strain=strain,
        numbers=finite,
    )
