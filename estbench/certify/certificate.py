"""The certificate of an estimator: every check, on every small problem that it declares to support."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from typing import NamedTuple

import torch

from estbench._version import __version__
from estbench.certify.check_result import CheckResult, run_check
from estbench.certify.checks import calls, contract, exact_mean, facts, shapes, unbiasedness
from estbench.certify.estimator_under_test import EstimatorUnderTest
from estbench.certify.problems.base import EXAMPLES, SmallProblem
from estbench.certify.record import (
    Certificate,
    CertificateStatus,
    Check,
    CheckOutcome,
    certificate_status,
    certified_parts,
    find_certificates,
    find_worst,
)
from estbench.certify.simulated_device import register
from estbench.errors import EstbenchError
from estbench.estimators import ESTIMATORS
from estbench.estimators import create as create_estimator
from estbench.plugins import load_plugin
from estbench.processes import end_with_parent, started_without_script, usable_cores
from estbench.source import fingerprint, ships

RunCheck = Callable[[EstimatorUnderTest, SmallProblem], CheckResult]
Part = tuple[tuple[Check, ...], float]  # checks, and the seconds that they took

# The checks by name, in the order in which they are shown. These are quick; with every change of the code they also run
# in the tests.
QUICK: dict[str, RunCheck] = {
    "evaluations": facts.check_evaluations,
    "differentiable f": facts.check_differentiable_f,
    "replicate dimensions": contract.check_replicates,
    "noise of its own": calls.check_own_noise,
    "no cross-talk": contract.check_cross_talk,
    "decoder gradient": contract.check_decoder,
    "prior gradient": contract.check_prior,
    "frozen in eval mode": contract.check_frozen,
    "training mode": contract.check_training_mode,
    "precision": contract.check_precision,
    "deterministic": contract.check_deterministic,
    "devices": contract.check_devices,
    "save and load": contract.check_save_and_load,
}
# Quick checks that hardly depend on the integrand, on one problem of each kind.
ONCE: dict[str, RunCheck] = {
    "no memory of calls": calls.check_no_memory,
    "batch sizes": shapes.check_batch_sizes,
    "large f": shapes.check_large_f,
}
BIASED = "declared bias"
ONE_BY_ONE_PROBLEMS = 2  # problems on which examples come one at a time
# Problems for each worker process; fewer are not worth the start of another process.
PROBLEMS_PER_WORKER = 5
WORKER = "SpawnProcess"  # the name that multiprocessing gives to the processes of a pool


def certify(variant: str, *, quick: bool = False) -> Certificate:
    """Check a registered estimator, ``name[option=value,...]``; with ``quick`` only by checks without long sampling.

    Raises ``EstbenchError`` if there is no such estimator or option, and for ``per_latent``, which only names others.

    >>> certificate = certify("enumeration", quick=True)
    >>> print(certificate.outcome)
    passed
    """
    label = ESTIMATORS.resolve(variant).label
    parts = certified_parts(label)
    if parts != [label]:
        raise EstbenchError(f"'{label}' has the certificates of its estimators; certify {' and '.join(parts)}")
    return certify_estimator(_find_registered(label), quick=quick)


def certify_estimator(tested: EstimatorUnderTest, *, quick: bool = False) -> Certificate:
    """Check an estimator that need not be registered."""
    register()  # a simulated accelerator is made before anything else computes
    tested = dataclasses.replace(tested, trains_long=not quick)
    return _join(tested, [_make_part(tested, problem, quick=quick) for problem in (None, *tested.problems)])


def certify_each(labels: Sequence[str], plugins: Iterable[str] = ()) -> Iterator[Certificate]:
    """Yield the certificates of variants in turn; many are made by one process for each usable core.

    Each process has one thread and loads the ``plugins``.
    """
    estimators = [_find_registered(label) for label in labels]
    parts = [(tested.label, index) for tested in estimators for index in range(len(tested.problems) + 1)]
    workers = min(len(parts) // PROBLEMS_PER_WORKER, usable_cores())
    if workers <= 1:
        yield from map(certify_estimator, estimators)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker, (tuple(plugins),)) as pool:
        with started_without_script(WORKER):
            done = pool.map(_make_numbered_part, parts)
        for tested in estimators:
            yield _join(tested, list(itertools.islice(done, len(tested.problems) + 1)))


def variants(name: str) -> list[str]:
    """Return the labels of an estimator that have a certificate each: with its defaults, and its declared variants."""
    cls = ESTIMATORS.get(name)
    return [ESTIMATORS.resolve(variant).label for variant in (name, *cls.variants)]


class CertifiedVariant(NamedTuple):
    """The status of a variant, and the worst check of each kind in its valid certificate, if it has one."""

    label: str
    status: CertificateStatus
    checks: tuple[Check, ...]


def certified_variants(name: str) -> list[CertifiedVariant]:
    """Return the recorded certificates of an estimator: with its defaults first, then of its declared variants."""
    source = fingerprint(ESTIMATORS.get(name))
    found = []
    for label in variants(name):
        valid = next((each for each in find_certificates(label) if each.fingerprint == source), None)
        checks = valid.condensed().checks if valid is not None else ()
        found.append(CertifiedVariant(label, certificate_status(label, source), checks))
    return found


def _find_registered(label: str) -> EstimatorUnderTest:
    return EstimatorUnderTest(label, lambda: create_estimator(label))


def _start_worker(plugins: tuple[str, ...]) -> None:
    end_with_parent()  # the queue does not tell a worker that its parent has ended
    torch.set_num_threads(1)
    register()
    for plugin in plugins:
        load_plugin(plugin)


def _make_numbered_part(part: tuple[str, int]) -> Part:
    label, index = part
    tested = _find_registered(label)
    return _make_part(tested, (None, *tested.problems)[index], quick=False)


def _make_part(tested: EstimatorUnderTest, problem: SmallProblem | None, *, quick: bool) -> Part:
    """Run the checks on one problem, or without a problem those of the estimator as a whole."""
    started = time.perf_counter()
    checks = _check_on(tested, problem, quick=quick) if problem else _check_as_a_whole(tested, quick=quick)
    return tuple(checks), time.perf_counter() - started


def _join(tested: EstimatorUnderTest, parts: Iterable[Part]) -> Certificate:
    checks_of_parts, seconds = zip(*parts, strict=True)
    checks = tuple(itertools.chain.from_iterable(checks_of_parts))
    return Certificate(
        label=tested.label,
        fingerprint=fingerprint(type(tested.facts)),
        outcome=find_worst(list(checks)).outcome,
        bias=next((check.numbers["bias"] for check in checks if check.name == BIASED and check.numbers), None),
        versions={"estbench": __version__, "torch": str(torch.__version__)},
        seconds=round(sum(seconds), 1),
        checks=checks,
    )


def _check_as_a_whole(tested: EstimatorUnderTest, *, quick: bool) -> Iterator[Check]:
    yield run_check("supports", "", lambda: facts.check_supports(tested))
    if quick:
        return
    if not tested.facts.unbiased:
        yield run_check(BIASED, "", lambda: facts.check_declared_bias(tested))
    if ships(type(tested.facts)):
        # The theory of estbench's own estimators says nothing about others, and is not imported for them.
        theory = import_module("estbench.certify.theory.known_results")
        for result in theory.known_results_for(tested.label):
            yield run_check(result.kind, result.claim, lambda result=result: result.check(tested))  # type: ignore[misc]


def _check_on(tested: EstimatorUnderTest, problem: SmallProblem, *, quick: bool) -> Iterator[Check]:
    checks = dict(QUICK)
    if tested.facts.unbiased:
        checks["exact mean"] = exact_mean.check_exact_mean
    representative = tested.is_representative(problem)
    if representative:
        checks |= ONCE
    if not quick:
        checks["as in a probe"] = unbiasedness.check_in_a_probe
        if representative or problem.examples > EXAMPLES:
            checks["order of the batch"] = contract.check_permutation
        if representative:
            checks["independent calls"] = calls.check_independent_calls
        if any(problem is each for each in tested.representatives[:ONE_BY_ONE_PROBLEMS]):
            checks["one example at a time"] = unbiasedness.check_one_by_one
        if tested.facts.unbiased:
            checks[unbiasedness.CHECK] = unbiasedness.check_unbiased
    call = run_check("a call", problem.name, lambda: contract.check_call(tested, problem))
    if call.outcome is not CheckOutcome.PASSED:  # the others would only repeat it
        yield call
        return
    for name, check in checks.items():
        yield run_check(name, problem.name, lambda check=check: check(tested, problem))  # type: ignore[misc]
