"""``estbench show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.options import plugin_option
from estbench.errors import EstbenchError, did_you_mean

if TYPE_CHECKING:
    from estbench.options import BaseOptions


@click.command()
@click.argument("name")
@plugin_option
def command(name: str, plugins: tuple[str, ...]) -> None:
    """Explain an estimator, problem, dataset or ready experiment."""
    from estbench.datasets import DATASETS
    from estbench.datasets import describe as describe_dataset
    from estbench.estimators import ESTIMATORS
    from estbench.estimators import describe as describe_estimator
    from estbench.experiment.spec import shipped_experiments
    from estbench.plugins import load_plugin
    from estbench.problems import PROBLEMS
    from estbench.problems import describe as describe_problem

    for plugin in plugins:
        load_plugin(plugin)
    name = name.partition("[")[0]
    experiments = shipped_experiments()
    if name in ESTIMATORS.names():
        _print_entry(describe_estimator(name), ESTIMATORS.get(name).Options)
        _print_certificates(name)
    elif name in PROBLEMS.names():
        _print_entry(describe_problem(name), PROBLEMS.get(name).Options)
    elif name in DATASETS.names():
        _print_entry({"name": name, "kind": "dataset", "documentation": describe_dataset(name)})
    elif name in experiments:
        _say_all(experiments[name].read_text(encoding="utf-8"))
    else:
        known = [*ESTIMATORS.names(), *PROBLEMS.names(), *DATASETS.names(), *experiments]
        raise EstbenchError(
            f"nothing is called '{name}'; {did_you_mean(name, known)}; names of your own need --plugin FILE"
        )


def _print_entry(entry: dict[str, Any], options_model: type[BaseOptions] | None = None) -> None:
    from estbench.cli.console import say
    from estbench.estimators import BIBTEX

    documentation, options = entry.pop("documentation"), entry.pop("options", {})
    _say_all(f"{entry.pop('name')} ({entry.pop('kind')})\n\n{documentation}\n\n")
    if options_model is not None and options:
        say("options and their defaults:")
        for option, default in options.items():
            description = options_model.model_fields[option].description
            say(f"  {option} = {default}" + (f"    ({description})" if description else ""))
        say("")
    reference, own_entry = entry.pop("reference", None), entry.pop("bibtex", None)
    for fact, value in entry.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        say(f"{fact.replace('_', ' ')}: {shown}")
    citation = own_entry or BIBTEX.get(str(reference))
    if citation:
        _say_all(f"\n{citation}")


def _say_all(text: str) -> None:
    from estbench.cli.console import say

    for each in text.splitlines():
        say(each)


def _print_certificates(name: str) -> None:
    """Print the certificates of an estimator, with its defaults and with the other options that it declares."""
    from estbench.certify import variants
    from estbench.certify.record import certificate_status, find_certificates
    from estbench.cli.console import say
    from estbench.estimators import ESTIMATORS
    from estbench.source import fingerprint

    source = fingerprint(ESTIMATORS.get(name))
    _say_all("\ncertificates (estbench check):")
    for label in variants(name):
        say(f"  {label}: {certificate_status(label, source)}")
        valid = [each for each in find_certificates(label) if each.fingerprint == source]
        for check in valid[0].condensed().checks if valid and label == name else ():
            say(f"    {check.name}: {check.outcome}; {check.evidence}")
