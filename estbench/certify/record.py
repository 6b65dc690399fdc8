"""Certificates: what ``estbench check`` found out about an estimator, on disk, and whether it still holds.

A certificate belongs to one choice of options and to the very source that was checked. Those of the estimators that
ship with estbench are part of the package; those of a user's own lie in ``results/certificates/``.
"""

from __future__ import annotations

import json
import re
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

FOLDER = GuardedPath("results") / "certificates"
SHIPPED = Path(__file__).parents[1] / "certificates.json"


class Outcome(StrEnum):
    """How a check ended; what was not applicable, or could not be decided, is never counted as passed."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"


class CertificateStatus(StrEnum):
    """What is known about an estimator with its options."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    CLAIMED = "claimed by the record"  # no certificate for its source is here or ships with estbench
    STALE = "stale"  # its source has changed since
    OTHER = "other options"  # the estimator passed with others than these
    NONE = "none"


class Check(Frozen):
    """One thing that was checked, and the evidence for its outcome."""

    name: str
    outcome: Outcome
    evidence: str
    setting: str = ""  # the small problem that it was checked on
    settings: int = 1  # how many it stands for
    strain: float = 0.0  # how much of the allowed deviation is used up; above 1 it fails
    message: str = ""  # of a failure: what was expected, what was measured, the usual causes
    numbers: dict[str, float] = Field(default_factory=dict)


class Certificate(Frozen):
    """All checks of one estimator with one choice of options."""

    label: str
    fingerprint: str
    outcome: Outcome
    bias: float | None = None  # the largest that was measured, relative to the gradient's norm; of biased ones
    versions: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0
    checks: tuple[Check, ...]

    def condensed(self) -> Certificate:
        """The same with one line for each kind of check: the worst of its settings."""
        kinds: dict[str, list[Check]] = {}
        for check in self.checks:
            kinds.setdefault(check.name, []).append(check)
        return self.model_copy(update={"checks": tuple(worst(checks) for checks in kinds.values())})

    def complaints(self) -> list[str]:
        """What did not pass, in words: one line for each kind of check, where it is worst."""
        undecided = (Outcome.FAILED, Outcome.INCONCLUSIVE)
        bad = [check for check in self.condensed().checks if check.outcome in undecided]
        return [
            f"{check.name} {check.outcome}{f' in {check.setting!r}' if check.setting else ''}: {check.message}"
            for check in bad
        ]


SEVERITY = (Outcome.NOT_APPLICABLE, Outcome.PASSED, Outcome.INCONCLUSIVE, Outcome.FAILED)


def worst(checks: list[Check]) -> Check:
    """The check that decides over several of a kind; it says how many it stands for."""
    decisive = max(checks, key=lambda check: (SEVERITY.index(check.outcome), check.strain))
    count = sum(check.settings for check in checks if check.outcome is not Outcome.NOT_APPLICABLE)
    return decisive.model_copy(update={"settings": count})


def certificate_status(label: str, source: str, *folders: Path | GuardedPath) -> CertificateStatus:
    """What is known about the variant ``label`` whose source has the fingerprint ``source``.

    The user's own certificates, in ``folders`` or ``results/certificates/``, count before those that ship.
    """
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


def certificate_claim(label: str, entry: type, folder: GuardedPath) -> dict[str, str]:
    """What is known about an estimator by the certificates in ``folder`` and those that ship, for a run's records."""
    source = fingerprint(entry)
    return {"status": str(certificate_status(label, source, folder)), "fingerprint": source}


def find_certificates(label: str, *folders: Path | GuardedPath) -> list[Certificate]:
    """Every certificate of the variant ``label``, the user's own first."""
    own = [_read(_file(folder, label)) for folder in dict.fromkeys((*folders, FOLDER))]
    found = [*own, shipped_certificates().get(label)]
    return [certificate for certificate in found if certificate is not None and certificate.label == label]


def save_certificate(certificate: Certificate, folder: Path | GuardedPath = FOLDER) -> Path:
    """Write a certificate into a folder, over an earlier one of the same variant."""
    path = _file(folder, certificate.label)
    try:
        path.parent.mkdir()
    except OSError as error:
        raise EstbenchError(f"cannot make '{folder}': {error.strerror}; choose another with --out") from None
    write_json(path, certificate.model_dump(mode="json"))
    return Path(path)


def shipped_certificates() -> dict[str, Certificate]:
    """The certificates that are part of the package, by label."""
    if not SHIPPED.is_file():
        return {}
    return dict(_shipped(SHIPPED, SHIPPED.stat().st_mtime_ns))


def update_shipped(certificates: list[Certificate], labels: set[str]) -> None:
    """Put certificates among those of the package; of the others, those of ``labels`` stay."""
    kept = {label: certificate for label, certificate in shipped_certificates().items() if label in labels}
    # How long it took is of one machine and one hour, and would make each recording differ from the last.
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
    """A certificate; what cannot be read as one is none."""
    try:
        if not path.exists():
            return None
        data = read_json(path)
        return validated(
            Certificate, {name: data[name] for name in Certificate.model_fields if name in data}, f"'{path}'"
        )
    except EstbenchError:
        return None
