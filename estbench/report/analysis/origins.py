"""Where the runs of a report came from: folder or archive, code, versions, machine, certificates of their source."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from estbench.certify.record import CertificateStatus, CheckOutcome, certified_parts
from estbench.errors import EstbenchError
from estbench.options import shortened
from estbench.report.analysis.frames import Frames, check_claim, get_nested
from estbench.report.analysis.notices import CERTIFICATE_WORDS
from estbench.report.analysis.wording import count_noun, format_list
from estbench.store.pack import certificates_in
from estbench.visible import visible

# Facts of the environment in which the runs of one origin agree.
SAME = ("commit", "uncommitted", "estbench", "torch", "machine", "device", "device_name")
LONGEST_NAME = 80
# What is said of an estimator whose certificate only the folder or archive itself has.
BROUGHT = "passed, by a certificate that came with it"


class Origin(NamedTuple):
    """Runs that came from one folder or archive, and were made by one code in one place.

    Attributes
    ----------
    source
        The name of the folder or archive; ``digest`` is the SHA-256 of an archive.
    estimators
        The labels of those that have a run here, in the order of the plan.
    environment
        The facts of ``SAME``, as far as they were recorded.
    certificates
        What is known of the certificate of each estimator, for the source that made these runs.
    """

    source: str
    digest: str
    runs: int
    estimators: list[str]
    environment: dict[str, Any]
    certificates: dict[str, str]


def name_sources(frames: Frames) -> dict[Path, str]:
    """Return the name of each folder or archive: as many parts of its path, from the last, as tell them apart."""
    paths = list(dict.fromkeys((frames.results.path, *frames.results.others)))
    names: dict[Path, str] = {}
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        ends = {path: "/".join(path.parts[-count:]) or str(path) for path in paths if path not in names}
        taken = Counter(ends.values())
        names |= {path: end for path, end in ends.items() if taken[end] == 1}
    return {path: shortened(visible(names.get(path, str(path))), LONGEST_NAME) for path in paths}


def find_origins(frames: Frames) -> list[Origin]:
    """Return the origins of all runs, in the order of the folders and archives."""
    names = name_sources(frames)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in frames.results.plan["cells"]:
        record = frames.results.records.get(cell["folder"])
        if record is not None:
            environment = get_nested(record, "environment", default={})
            facts = tuple(str(environment.get(name, "")) for name in SAME)
            groups.setdefault((frames.results.origin(cell["folder"]), *facts), []).append(cell)
    order = list(names)
    brought: dict[Path, list[Any]] = {}
    found = []
    for (path, *_), cells in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1:])):
        if path not in brought:
            brought[path] = _read_certificates(path)
        first = cells[0]["folder"]
        environment = get_nested(frames.results.records, first, "environment", default={})
        labels = [label for label in frames.estimators if any(cell["estimator"]["label"] == label for cell in cells)]
        found.append(
            Origin(
                source=names[path],
                digest=frames.results.home(first).digest,
                runs=len(cells),
                estimators=labels,
                environment={name: environment[name] for name in SAME if environment.get(name) is not None},
                certificates={label: _describe(frames, label, cells, brought[path]) for label in labels},
            )
        )
    return found


def describe_origins(origins: list[Origin]) -> list[str]:
    """Return a sentence that names the folders and archives, if there are several."""
    runs: dict[str, int] = {}
    for origin in origins:
        runs[origin.source] = runs.get(origin.source, 0) + origin.runs
    if len(runs) < 2:
        return []
    listed = format_list([f"{name} ({count_noun(count, 'run')})" for name, count in runs.items()])
    line = (
        f"These runs came from {len(runs)} sources: {listed}. Their bounds and variances are compared; seconds are only"
        " compared where one machine took both. Below, under Environment: code, versions, machine and certificates of"
        " each source."
    )
    return [line]


def _read_certificates(path: Path) -> list[Any]:
    try:
        return certificates_in(path)
    except EstbenchError:  # a damaged one counts as none; the runs are no worse for it
        return []


def _describe(frames: Frames, label: str, cells: list[dict[str, Any]], brought: list[Any]) -> str:
    """Return the status of a certificate for the source that made some runs, in words."""
    folders = [cell["folder"] for cell in cells if cell["estimator"]["label"] == label]
    claims = [get_nested(frames.results.records, folder, "certificate", default={}) for folder in folders]
    sources = {str(get_nested(claim, "fingerprint", default="")) for claim in claims}
    if sources == {""}:
        return CERTIFICATE_WORDS[CertificateStatus.NONE]
    if len(sources) > 1:
        return "of several sources"
    status = check_claim(label, claims[0])
    if status in {CertificateStatus.PASSED, CertificateStatus.FAILED}:
        return str(status)
    wanted = dict(zip(certified_parts(label), next(iter(sources)).split("+"), strict=False))
    passed = {
        each.get("label")
        for each in brought
        if isinstance(each, dict)
        and each.get("outcome") == CheckOutcome.PASSED
        and each.get("fingerprint")
        and each.get("fingerprint") == wanted.get(str(each.get("label")))
    }
    return BROUGHT if passed == set(wanted) else CERTIFICATE_WORDS[status]
