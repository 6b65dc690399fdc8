"""``estbench probe``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from estbench.cli.completion import complete
from estbench.cli.options import json_option, plugin_option
from estbench.errors import EstbenchError

# The columns of the table, from the most important one on.
IMPORTANT = ("variance over", "variance", "SNR", "bias", "cosine", "variance \N{MULTIPLICATION SIGN}", "data variance")

if TYPE_CHECKING:
    import torch

    from estbench.training.frozen import FrozenModel, Probed, Unmeasured


@click.command(no_args_is_help=False)
@click.option(
    "-e",
    "--estimator",
    "estimators",
    multiple=True,
    default=("reparam",),
    show_default=True,
    metavar="NAME[opts]",
    shell_complete=complete("estimators"),
    help="Estimators to measure; the others are compared with the first. May be repeated.",
)
@click.option(
    "--problem",
    metavar="NAME[opts]",
    shell_complete=complete("problems"),
    help="The problem.  [default: vae, or the checkpoint's]",
)
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="FILE", help="Weights to measure at.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Measure at all weights that a results folder kept (`run --keep-checkpoints`).",
)
@click.option("--replicates", type=click.IntRange(3), default=100, show_default=True, help="Draws of the gradient.")
@click.option("--batch-size", type=click.IntRange(1), default=100, show_default=True, help="Examples in the minibatch.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, minibatch and draws.")
@click.option(
    "--reference",
    metavar="exact|NAME[opts]",
    help="Reference for the bias: the exact gradient, or an unbiased estimator with ten times the draws.",
)
@click.option(
    "--tracking-steps",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Steps in which learned parts of an estimator are trained first, at these weights.",
)
@click.option(
    "--path",
    type=click.Choice(["auto", "fast", "loop"]),
    default="auto",
    show_default=True,
    help="How weight gradients are measured: fast if possible, only fast, or one backward call per replicate.",
)
@click.option("--layers", is_flag=True, help="Split the weights by layer.")
@click.option("--device", metavar="DEVICE", default="auto", show_default=True)
@plugin_option
@json_option
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write the table and the figure there.")
def command(
    estimators: tuple[str, ...],
    problem: str | None,
    checkpoint: Path | None,
    results: Path | None,
    replicates: int,
    batch_size: int,
    seed: int,
    reference: str | None,
    tracking_steps: int,
    *,
    path: Literal["auto", "fast", "loop"],
    layers: bool,
    device: str,
    plugins: tuple[str, ...],
    as_json: bool,
    out: Path | None,
) -> int:
    """Measure gradient variance, bias and cost at frozen weights, without training.

    All estimators are measured at the same weights, on the same minibatch, with the same seeds: those of a
    fresh model, of a checkpoint, or of a results folder.
    """
    if checkpoint and results:
        raise EstbenchError("--checkpoint and --results exclude each other; give one of them")
    if results and problem:
        raise EstbenchError("--results already says the problem; drop --problem")

    from estbench.cli.console import print_json, print_table, say
    from estbench.devices import choose_device
    from estbench.plugins import load_plugin
    from estbench.report.analysis.noise_shares import describe_probe
    from estbench.report.tables import probe
    from estbench.training.frozen import check_names, probe_alone

    for plugin in plugins:
        load_plugin(plugin)
    places = _places(problem, checkpoint, results, seed, choose_device(device))
    labels = {place.name: check_names(place.problem, [*estimators], reference) for place in places}
    measured: list[Probed] = []
    failed: list[Unmeasured] = []
    for place in places:
        found, failures = probe_alone(
            place,
            labels[place.name],
            replicates=replicates,
            batch_size=batch_size,
            seed=seed,
            reference=reference,
            reference_replicates=10 * replicates,
            tracking_steps=tracking_steps,
            layers=layers,
            path=path,
        )
        measured += found
        failed += failures
    for each in failed:
        say(f"failed: {each.name}, {each.place}: {each.reason}", stderr=True, style="red")
    frame = probe.frame_of(_rows(measured))
    if as_json:
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        print_json({"rows": rows, **_facts(measured), "failed": [asdict(each) for each in failed]})
    elif measured:
        print_table(probe.table(frame), IMPORTANT, group="gradient of", elsewhere="--json")
        for line in [*describe_probe(frame), *_remarks(measured)]:
            say(line)
    if out and measured:
        for file in probe.write(out, probe.table(frame), frame):
            say(f"written: {file}", stderr=True)
    return 1 if failed else 0


def _places(
    problem: str | None, checkpoint: Path | None, results: Path | None, seed: int, device: torch.device
) -> list[FrozenModel]:
    from estbench.guarded import GuardedPath
    from estbench.training import frozen

    if results:
        return frozen.in_results(results, device)
    if checkpoint:
        return [frozen.at_checkpoint(GuardedPath(checkpoint.parent) / checkpoint.name, problem, device)]
    return [frozen.fresh(problem or "vae", seed, device)]


def _rows(measured: list[Probed]) -> list[dict[str, Any]]:
    """Return the moments in long form, each with its cost."""
    return [
        {
            "place": each.place,
            "estimator": each.estimator,
            **row,
            "evaluations": each.evaluations,
            "milliseconds": each.milliseconds.value,
        }
        for each in measured
        for row in each.moments.rows
    ]


def _facts(measured: list[Probed]) -> dict[str, Any]:
    return {
        "paths": [
            {
                "place": each.place,
                "estimator": each.estimator,
                "path": each.moments.path,
                "reason": each.moments.reason,
            }
            for each in measured
        ],
        "absent": [line for each in measured for line in each.moments.absent],
        "warnings": [warning for each in measured for warning in each.moments.warnings],
    }


def _remarks(measured: list[Probed]) -> list[str]:
    """Return sentences about how the weights were measured, and what to distrust."""
    lines = []
    for each in measured:
        why = f" ({each.moments.reason})" if each.moments.reason else ""
        lines.append(f"{each.estimator}: {each.moments.path} path{why}")
        lines += [f"  not measured: {line}" for line in each.moments.absent]
        lines += [f"  warning: {warning}" for warning in each.moments.warnings]
    return lines
