"""``estbench show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.completion import complete
from estbench.cli.options import plugin_option
from estbench.errors import EstbenchError, did_you_mean

if TYPE_CHECKING:
    from estbench.options import BaseOptions
    from estbench.registry import Registry


@click.command()
@click.argument(
    "name", shell_complete=complete("estimators", "problems", "parts", "datasets", "metrics", "experiments")
)
@plugin_option
def command(name: str, plugins: tuple[str, ...]) -> None:
    """Explain an estimator, problem, part of a VAE, dataset, metric or ready experiment."""
    from estbench.datasets import DATASETS
    from estbench.datasets import describe as describe_dataset
    from estbench.datasets.own_files import is_own_file
    from estbench.estimators import ESTIMATORS
    from estbench.estimators import describe as describe_estimator
    from estbench.experiment.spec import find_shipped, shipped_experiments
    from estbench.measure import METRICS, describe_metric
    from estbench.plugins import load_plugin
    from estbench.problems import PARTS, PROBLEMS, describe_part
    from estbench.problems import describe as describe_problem

    for plugin in plugins:
        load_plugin(plugin)
    name = name.partition("[")[0]
    experiment = find_shipped(name)
    parts = [kind for kind, registry in PARTS.items() if name in registry.names()]
    if name in ESTIMATORS.names():
        _print_entry(describe_estimator(name), ESTIMATORS.get(name).Options)
        _print_certificates(name)
    elif name in PROBLEMS.names():
        _print_entry(describe_problem(name), PROBLEMS.get(name).Options)
    elif name in DATASETS.names() or is_own_file(name):
        _print_entry({"name": name, "kind": "dataset", "documentation": describe_dataset(name)})
    elif name in METRICS.names():
        _print_entry(
            {
                fact: value
                for fact, value in describe_metric(name).items()
                if fact == "documentation" or (value and fact != "summary")
            }
        )
    elif parts:
        for kind in parts:  # a name may be that of a posterior and of a prior
            _print_entry(describe_part(kind, name), getattr(PARTS[kind].get(name), "Options", None))
    elif experiment is not None:
        _print_lines(experiment.read_text(encoding="utf-8"))
    else:
        registries: list[Registry[Any]] = [ESTIMATORS, PROBLEMS, DATASETS, METRICS, *PARTS.values()]
        known = [*(each for registry in registries for each in registry.names()), *shipped_experiments()]
        raise EstbenchError(
            f"nothing is called '{name}'; {did_you_mean(name, known)}; names of your own need --plugin FILE"
        )


def _print_entry(entry: dict[str, Any], options_model: type[BaseOptions] | None = None) -> None:
    from estbench.cli.console import print_prose
    from estbench.estimators import BIBTEX

    documentation, options = entry.pop("documentation"), entry.pop("options", {})
    print_prose(f"{entry.pop('name')} ({entry.pop('kind')})\n\n{documentation}\n\n")
    if options_model is not None and options:
        lines = ["options and their defaults:"]
        for option, default in options.items():
            description = options_model.model_fields[option].description
            lines.append(f"  {option} = {default}" + (f"    ({description})" if description else ""))
        print_prose("\n".join([*lines, ""]))
    reference, own_entry = entry.pop("reference", None), entry.pop("bibtex", None)
    for fact, value in entry.items():
        print_prose(f"{fact.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}")
    citation = own_entry or BIBTEX.get(str(reference))
    if citation:
        _print_lines(f"\n{citation}")


def _print_lines(text: str) -> None:
    """Print a file or a BibTeX entry as it is: it is there to be copied."""
    from estbench.cli.console import say

    for each in text.splitlines():
        say(each)


def _print_certificates(name: str) -> None:
    """Print the certificates of an estimator, with its defaults and with the other options that it declares."""
    from estbench.certify import certified_variants
    from estbench.cli.console import print_prose

    lines = ["", "certificates (estbench check):"]
    for variant in certified_variants(name):
        lines.append(f"  {variant.label}: {variant.status}")
        checks = variant.checks if variant.label == name else ()
        lines += [f"    {check.name}: {check.outcome}; {check.evidence}" for check in checks]
    print_prose("\n".join(lines))
