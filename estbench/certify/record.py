"""Certificates on disk: the results of ``estbench check`` for an estimator, and whether they still hold.

A certificate holds for one choice of options and for the source that was checked. The certificates of the estimators
that ship with estbench are part of the package. Those of the user's own estimators are in ``results/certificates/``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from estbench.errors import EstbenchError
from estbench.experiment import SCHEMA_VERSION
from estbench.guarded import GuardedPath, guarded
from estbench.options import Frozen, validated
from estbench.source import fingerprint
from estbench.store.files import read_json, write_json, write_text
from estbench.variant import Variant

FOLDER = GuardedPath("results") / "certificates"
SHIPPED = Path(__file__).parents[1] / "certificates.json"


class CheckOutcome(StrEnum):
    """The end of a check. One that does not apply, or could not decide, never counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"


class CertificateStatus(StrEnum):
    """The status of an estimator with its options, from its certificates."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    CLAIMED = "claimed by the record"  # neither the user nor estbench has a certificate for its source
    STALE = "stale"  # its source has changed since
    OTHER = "other options"  # it passed with its defaults, but has no certificate with these options
    NONE = "none"


FROM_PASSED_TO_FAILED = (
    CertificateStatus.PASSED,
    CertificateStatus.OTHER,
    CertificateStatus.CLAIMED,
    CertificateStatus.NONE,
    CertificateStatus.STALE,
    CertificateStatus.INCONCLUSIVE,
    CertificateStatus.FAILED,
)


# The checks of the mean gradient, and what introduces the causes in a message about it.
MEAN = {"exact mean", "unbiased"}
USUAL_CAUSES = "Usual causes: "


class Check(Frozen):
    """One thing that was checked, and the evidence for its outcome."""

    name: str
    outcome: CheckOutcome
    evidence: str
    problem: str = ""  # the name of the small problem that it was checked on
    num_problems: int = 1  # how many problems it summarises
    severity: float = 0.0  # the measured deviation over the allowed one; above 1 the check fails
    message: str = ""  # if it failed: what was expected, what was measured, the usual causes
    numbers: dict[str, float] = Field(default_factory=dict)


class Certificate(Frozen):
    """All checks of one estimator with one choice of options."""

    label: str
    fingerprint: str
    outcome: CheckOutcome
    bias: float | None = None  # the largest that was measured, relative to the gradient's norm; None if unbiased
    versions: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0
    checks: tuple[Check, ...]

    def condensed(self) -> Certificate:
        """Return the certificate with one entry for each kind of check: its worst result."""
        kinds: dict[str, list[Check]] = {}
        for check in self.checks:
            kinds.setdefault(check.name, []).append(check)
        return self.model_copy(update={"checks": tuple(find_worst(checks) for checks in kinds.values())})

    def complaints(self) -> list[str]:
        """Return one line for each kind of check that failed or could not decide, with its worst result.

        A wrong mean comes first, because most of the others follow from it. What a line repeats of an earlier one, an
        error or the usual causes, is left out.
        """
        undecided = (CheckOutcome.FAILED, CheckOutcome.INCONCLUSIVE)
        bad = [check for check in self.condensed().checks if check.outcome in undecided]
        lines: dict[str, str] = {}
        for check in sorted(bad, key=lambda check: check.name not in MEAN):
            message, _, causes = check.message.partition(USUAL_CAUSES)
            told = any(causes and causes in earlier for earlier in lines.values())
            message = message.rstrip() if told else check.message
            name = f"{check.name} {check.outcome}{f' on {check.problem!r}' if check.problem else ''}"
            lines.setdefault(message, f"{name}: {message}")
        return [*lines.values()]


FROM_BEST_TO_WORST = (CheckOutcome.NOT_APPLICABLE, CheckOutcome.PASSED, CheckOutcome.INCONCLUSIVE, CheckOutcome.FAILED)


def find_worst(checks: list[Check]) -> Check:
    """Return the worst of several checks, with the number of problems that they were applicable to."""
    worst = max(checks, key=lambda check: (FROM_BEST_TO_WORST.index(check.outcome), check.severity))
    count = sum(check.num_problems for check in checks if check.outcome is not CheckOutcome.NOT_APPLICABLE)
    return worst.model_copy(update={"num_problems": count})


def certificate_status(label: str, source: str, *folders: Path | GuardedPath) -> CertificateStatus:
    """Return what the certificates say about the variant ``label`` whose source has the fingerprint ``source``.

    The user's own certificates, in ``folders`` or ``results/certificates/``, take precedence over those that ship. An
    estimator that names others has the worst of their statuses; ``source`` then joins their fingerprints by "+".
    """
    parts = certified_parts(label)
    if parts != [label]:
        sources = [*source.split("+"), *[""] * len(parts)]
        statuses = [certificate_status(part, own, *folders) for part, own in zip(parts, sources, strict=False)]
        return max(statuses, key=FROM_PASSED_TO_FAILED.index)
    certificates = find_certificates(label, *folders)
    valid = next((certificate for certificate in certificates if source and certificate.fingerprint == source), None)
    if valid is not None:
        return CertificateStatus(valid.outcome)
    if certificates:
        return CertificateStatus.STALE
    name = label.partition("[")[0]
    if name != label and certificate_status(name, source, *folders) is CertificateStatus.PASSED:
        return CertificateStatus.OTHER
    return CertificateStatus.NONE


def certified_parts(label: str) -> list[str]:
    """Return the labels of the estimators whose certificates one rests on: itself, or those that it names.

    >>> certified_parts("per_latent[y=rloo,z=stl]")
    ['rloo', 'stl']
    """
    if not label.startswith("per_latent["):
        return [label]
    try:
        return [str(part) for part in Variant.parse(label).options.values()]
    except EstbenchError:  # the label of a stranger's record
        return [label]


def certificate_claim(label: str, entries: Iterable[type], folder: GuardedPath) -> dict[str, str]:
    """Return what the certificates in ``folder`` and those that ship say about an estimator, for a run's record.

    ``entries`` are the classes of its ``certified_parts``.
    """
    source = "+".join(fingerprint(entry) for entry in entries)
    return {"status": str(certificate_status(label, source, folder)), "fingerprint": source}


def find_certificates(label: str, *folders: Path | GuardedPath) -> list[Certificate]:
    """Return every certificate of the variant ``label``, the user's own first."""
    own = [_read(_file(folder, label)) for folder in dict.fromkeys((*folders, FOLDER))]
    every = [*own, shipped_certificates().get(label)]
    return [certificate for certificate in every if certificate is not None and certificate.label == label]


def save_certificate(certificate: Certificate, folder: Path | GuardedPath = FOLDER) -> Path:
    """Write a certificate into a folder, replacing an earlier one of the same variant, and return its path.

    Raises ``EstbenchError`` if the folder cannot be created.
    """
    path = _file(folder, certificate.label)
    try:
        path.parent.mkdir()
    except OSError as error:
        raise EstbenchError(f"cannot create '{folder}': {error.strerror}; choose another with --out") from None
    write_json(path, certificate.model_dump(mode="json"))
    return Path(path)


def shipped_certificates() -> dict[str, Certificate]:
    """Return the certificates that are part of the package, by label."""
    if not SHIPPED.is_file():
        return {}
    return dict(_shipped(SHIPPED, SHIPPED.stat().st_mtime_ns))


def update_shipped(certificates: list[Certificate], labels: set[str]) -> None:
    """Write certificates into those of the package; of the other ones only those of ``labels`` stay."""
    kept = {label: certificate for label, certificate in shipped_certificates().items() if label in labels}
    # The seconds differ each time, and would make each recording differ from the last.
    short = [certificate.condensed().model_copy(update={"seconds": 0.0}) for certificate in certificates]
    merged = kept | {certificate.label: certificate for certificate in short}
    entries = [merged[label].model_dump(mode="json", exclude_defaults=True) for label in sorted(merged)]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    write_text(SHIPPED, f'{{"schema": {SCHEMA_VERSION}, "certificates": [\n{lines}\n]}}\n')


@lru_cache(maxsize=1)
def _shipped(path: Path, _changed: int) -> dict[str, Certificate]:
    listed = read_json(path, "reinstall estbench")["certificates"]
    certificates = [validated(Certificate, entry, f"'{path.name}'") for entry in listed]
    return {certificate.label: certificate for certificate in certificates}


def _file(folder: Path | GuardedPath, label: str) -> GuardedPath:
    return guarded(folder) / f"{re.sub(r'[^a-z0-9._]+', '-', label.lower()).strip('-.')[:120]}.json"


def _read(path: GuardedPath) -> Certificate | None:
    """Read a certificate; None if the file is missing or damaged."""
    try:
        if not path.exists():
            return None
        data = read_json(path)
        return validated(
            Certificate, {name: data[name] for name in Certificate.model_fields if name in data}, f"'{path}'"
        )
    except EstbenchError:
        return None
