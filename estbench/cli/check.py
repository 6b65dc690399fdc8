"""``estbench check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from estbench.cli.options import json_option, plugin_option
from estbench.errors import EstbenchError

if TYPE_CHECKING:
    from estbench.certify.record import Certificate


@click.command()
@click.argument("names", nargs=-1, metavar="NAME[opts]...")
@click.option("--all", "everything", is_flag=True, help="Check every estimator that is known.")
@plugin_option
@click.option(
    "--out", type=click.Path(), metavar="DIR", help="Where the certificates go.  [default: results/certificates]"
)
@click.option("--record", is_flag=True, help="Put them among those that ship with estbench: for its developers.")
@json_option
def command(
    names: tuple[str, ...],
    plugins: tuple[str, ...],
    out: str | None,
    *,
    everything: bool,
    record: bool,
    as_json: bool,
) -> int:
    """Put estimators to the test: one certificate each, with the evidence for every check.

    Small problems with exact gradients prove the mean, the variance where theory knows it, the declared
    facts and the contract. NAME is checked with its defaults and with the further options that it declares;
    NAME[opts] with those alone. Exit code 1 if one does not pass.
    """
    from estbench.certify import certify_each
    from estbench.certify.record import FOLDER, save_certificate, update_shipped
    from estbench.cli.console import print_json, say
    from estbench.plugins import load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    labels = _labels(names, everything=everything)
    if record and (plugins or out):
        raise EstbenchError("--record is for the estimators that ship with estbench; drop --plugin and --out")
    made = []
    for certificate in certify_each(labels, plugins):
        made.append(certificate)
        if not record:
            save_certificate(certificate, Path(out) if out else FOLDER)
        if not as_json:
            _print(certificate, brief=everything)
    if record:
        update_shipped(made, set(_labels((), everything=True)))
    if as_json:
        print_json([certificate.model_dump(mode="json") for certificate in made])
    bad = sum(certificate.outcome != "passed" for certificate in made)
    if not as_json and len(made) > 1:
        say(f"{len(made) - bad} of {len(made)} certificates passed")
    return 1 if bad else 0


def _labels(names: tuple[str, ...], *, everything: bool) -> list[str]:
    """The variants to check, each once."""
    from estbench.certify import variants
    from estbench.estimators import ESTIMATORS

    if everything == bool(names):
        raise EstbenchError("name the estimators to check, or say --all; `estbench list estimators` names them")
    wanted = [
        [ESTIMATORS.resolve(name).label] if "[" in name else variants(name) for name in (names or ESTIMATORS.names())
    ]
    return list(dict.fromkeys(label for labels in wanted for label in labels))


def _print(certificate: Certificate, *, brief: bool) -> None:
    """A table of checks, or one line where all is well and many are checked."""
    from estbench.cli.console import print_rows, say

    if not brief or certificate.outcome != "passed":
        rows = [
            (check.name, str(check.outcome), str(check.settings or ""), check.evidence)
            for check in certificate.condensed().checks
        ]
        print_rows(certificate.label, ("check", "outcome", "settings", "evidence (where it is tightest)"), rows)
        for line in certificate.complaints():
            say(line)
    say(f"{certificate.label}: {certificate.outcome}, {certificate.seconds:.1f} s")
