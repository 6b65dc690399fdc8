"""``estbench check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from estbench.cli.completion import complete
from estbench.cli.layout import Column
from estbench.cli.options import json_option, plugin_option
from estbench.errors import EstbenchError

CERTIFICATE = (
    Column("check", keep=True),
    Column("outcome", keep=True),
    Column("problems", "number", 1),
    Column("closest call"),
)
CERTIFICATE_OF_PROBLEM = (Column("check", keep=True), Column("outcome", keep=True), Column("evidence"))

if TYPE_CHECKING:
    from estbench.certify.record import Certificate


@click.command()
@click.argument("names", nargs=-1, metavar="NAME[opts]...", shell_complete=complete("estimators"))
@click.option("--all", "everything", is_flag=True, help="Check every registered estimator.")
@click.option(
    "--problem",
    "problems",
    multiple=True,
    metavar="NAME[opts]",
    shell_complete=complete("problems"),
    help="A problem to check, by checks of its own. May be repeated.",
)
@plugin_option
@click.option(
    "--out",
    type=click.Path(),
    metavar="DIR",
    help="The folder of the estimators' certificates.  [default: results/certificates]",
)
@click.option("--record", is_flag=True, help="Update the certificates that ship with estbench: for its developers.")
@json_option
def command(
    names: tuple[str, ...],
    problems: tuple[str, ...],
    plugins: tuple[str, ...],
    out: str | None,
    *,
    everything: bool,
    record: bool,
    as_json: bool,
) -> int:
    """Check estimators and problems: one certificate each, with the evidence for every check.

    Small problems with exact gradients show whether an estimator's mean gradient, declared facts and contract
    hold. NAME is checked with its defaults and with the variants that it declares; NAME[opts] only with
    these options. A problem is checked with the options that it is given: its data, bounds, groups, seeds and
    state. Exit code 1 if a certificate does not pass.
    """
    from estbench.certify import certify_each, certify_problem
    from estbench.certify.record import FOLDER, save_certificate, update_shipped
    from estbench.cli.console import print_json, say
    from estbench.plugins import load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    only_problems = bool(problems) and not names and not everything
    labels = [] if only_problems else _find_labels(names, everything=everything)
    of_problems = _resolve_problems(problems)
    if record and (plugins or out):
        raise EstbenchError("--record updates the certificates that ship with estbench; drop --plugin and --out")
    if record and problems:
        raise EstbenchError("--record updates the certificates of estimators; drop --problem, whose are not kept")
    certificates = []
    for certificate in certify_each(labels, plugins):
        certificates.append(certificate)
        if not record:
            save_certificate(certificate, Path(out) if out else FOLDER)
        if not as_json:
            _print_certificate(certificate, brief=everything)
    for label in of_problems:
        certificate = certify_problem(label)
        certificates.append(certificate)
        if not as_json:
            _print_certificate_of_problem(certificate)
    if record:
        update_shipped(certificates, set(_find_labels((), everything=True)))
    if as_json:
        print_json([certificate.model_dump(mode="json") for certificate in certificates])
    not_passed = sum(certificate.outcome != "passed" for certificate in certificates)
    if not as_json and len(certificates) > 1:
        say(f"{len(certificates) - not_passed} of {len(certificates)} certificates passed")
    return 1 if not_passed else 0


def _find_labels(names: tuple[str, ...], *, everything: bool) -> list[str]:
    """Return the labels of the variants to check, each once; for one that names others, theirs."""
    from estbench.certify import variants
    from estbench.certify.record import certified_parts
    from estbench.estimators import ESTIMATORS

    if everything == bool(names):
        raise EstbenchError(
            "name the estimators to check, or use --all; `estbench list estimators` lists them; or --problem NAME"
        )
    wanted = [
        certified_parts(ESTIMATORS.resolve(name).label) if "[" in name else variants(name)
        for name in (names or ESTIMATORS.names())
    ]
    return list(dict.fromkeys(label for labels in wanted for label in labels))


def _resolve_problems(variants: tuple[str, ...]) -> list[str]:
    """Return the labels of the problems to check, each once."""
    if not variants:
        return []
    from estbench.problems import PROBLEMS

    return list(dict.fromkeys(PROBLEMS.resolve(variant).label for variant in variants))


def _print_certificate(certificate: Certificate, *, brief: bool) -> None:
    """Print a table of checks; with ``brief`` only one line if the certificate passed."""
    from estbench.cli.console import print_rows

    if not brief or certificate.outcome != "passed":
        rows = [
            (check.name, str(check.outcome), str(check.num_problems or ""), check.evidence)
            for check in certificate.condensed().checks
        ]
        print_rows(certificate.label, CERTIFICATE, rows)
        _print_complaints(certificate)
    _print_outcome(certificate)


def _print_certificate_of_problem(certificate: Certificate) -> None:
    from estbench.cli.console import print_rows

    rows = [(check.name, str(check.outcome), check.evidence) for check in certificate.checks]
    print_rows(certificate.label, CERTIFICATE_OF_PROBLEM, rows)
    _print_complaints(certificate)
    _print_outcome(certificate)


def _print_complaints(certificate: Certificate) -> None:
    from estbench.cli.console import say

    for line in certificate.complaints():
        say(line)


def _print_outcome(certificate: Certificate) -> None:
    from estbench.cli.console import say

    say(f"{certificate.label}: {certificate.outcome}, {certificate.seconds:.1f} s")
