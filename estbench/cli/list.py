"""``estbench list``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import rich_click as click

from estbench.cli.layout import Column
from estbench.cli.options import json_option, plugin_option

# Those that have a rank are facts, from the most important one on.
COLUMNS = (
    Column("name", keep=True),
    Column("unbiased", rank=1),
    Column("requires", rank=3),
    Column("latents", rank=3),
    Column("evaluations", rank=2),
    Column("certificate", rank=4),
    Column("bounds", rank=5),
    Column("differentiable f", rank=6),
    Column("family", rank=7),
    Column("reference", rank=8),
    Column("splits", rank=1),
    Column("better", rank=1),
    Column("unit", rank=2),
    Column("summary", keep=True),
    Column("question", keep=True),
)
PARTS = ("networks", "posteriors", "priors", "likelihoods")  # of a VAE
KINDS = ("estimators", "problems", *PARTS, "datasets", "metrics", "experiments")


@click.command()
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.option("--long", is_flag=True, help="Also print the facts about each.")
@plugin_option
@json_option
def command(kind: str | None, plugins: tuple[str, ...], *, long: bool, as_json: bool) -> None:
    """Name what there is: estimators, problems, the parts of a VAE, datasets, metrics, ready experiments."""
    from estbench.cli.console import print_json, print_rows, say
    from estbench.plugins import load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    wanted = {name: LISTINGS[name]() for name in ([kind] if kind else KINDS)}
    if as_json:
        print_json(wanted)
        return
    for name, entries in wanted.items():
        columns = [column for column in COLUMNS if entries and column.title in entries[0] and (long or not column.rank)]
        ordered = sorted(entries, key=lambda entry: str(entry["name"]))
        rows = [[_text(entry[column.title]) for column in columns] for entry in ordered]
        print_rows(name, columns, rows, elsewhere="--json")
    if not long and kind in {None, "estimators"}:
        say("--long adds what each requires and costs; `estbench show NAME` explains one")


def _estimators() -> list[dict[str, Any]]:
    from estbench.certify.record import certificate_status
    from estbench.estimators import ESTIMATORS
    from estbench.estimators import describe as describe_estimator
    from estbench.source import fingerprint

    found = []
    for name in ESTIMATORS.names():
        cls, facts = ESTIMATORS.get(name), describe_estimator(name)
        found.append(
            {
                "name": name,
                "family": cls.__module__.rpartition(".")[2].replace("_", " "),
                "unbiased": facts["unbiased"],
                "requires": facts["supports"],
                "bounds": facts["bounds"],
                "evaluations": facts["evaluations"],
                "differentiable f": facts["needs_differentiable_f"],
                "reference": facts["reference"],
                "certificate": str(certificate_status(name, fingerprint(cls))),
                "summary": facts["summary"],
            }
        )
    return found


def _problems() -> list[dict[str, Any]]:
    from estbench.problems import PROBLEMS
    from estbench.problems import describe as describe_problem

    found = [describe_problem(name) for name in PROBLEMS.names()]
    return [{column: entry[column] for column in ("name", "latents", "summary")} for entry in found]


def _parts(kind: str) -> list[dict[str, Any]]:
    from estbench.problems import PARTS, describe_part

    return [
        {"name": name, "summary": describe_part(kind, name)["documentation"].partition("\n")[0]}
        for name in PARTS[kind].names()
    ]


def _datasets() -> list[dict[str, Any]]:
    from estbench.datasets import DATASETS
    from estbench.datasets import describe as describe_dataset

    return [{"name": name, "summary": describe_dataset(name)} for name in DATASETS.names()]


def _metrics() -> list[dict[str, Any]]:
    from estbench.measure import METRICS, describe_metric

    found = [describe_metric(name) for name in METRICS.names()]
    return [{column: entry[column] for column in ("name", "splits", "better", "unit", "summary")} for entry in found]


def _experiments() -> list[dict[str, Any]]:
    from estbench.experiment import read_experiment
    from estbench.experiment.spec import shipped_experiments

    return [{"name": name, "question": read_experiment(path).question} for name, path in shipped_experiments().items()]


LISTINGS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "estimators": _estimators,
    "problems": _problems,
    **{kind: partial(_parts, kind.removesuffix("s")) for kind in PARTS},
    "datasets": _datasets,
    "metrics": _metrics,
    "experiments": _experiments,
}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
