"""``estbench run``."""

from __future__ import annotations

from typing import Any

import rich_click as click

from estbench.cli.options import execution_options, plugin_option
from estbench.errors import EstbenchError


@click.command(no_args_is_help=False)
@click.argument("experiment", default="quickstart", metavar="[EXPERIMENT.toml]")
@click.option(
    "-e",
    "--estimator",
    "estimators",
    multiple=True,
    metavar="NAME[opts]",
    help="Estimators, in place of the experiment's; for example 'rloo[num_samples=4]'. May be repeated.",
)
@click.option(
    "--problem",
    "problems",
    multiple=True,
    metavar="NAME[opts]",
    help="Problems, in place of the experiment's; for example 'vae[latent_size=50]'. May be repeated.",
)
@click.option("--seeds", metavar="N | A,B,...", help="A number of seeds, or the seeds themselves.")
@click.option("--steps", type=int, metavar="N", help="Training steps.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Results folder.  [default: results/EXPERIMENT]")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
@execution_options
@plugin_option
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting; for example training.learning_rate=3e-4.",
)
@click.option("--force", is_flag=True, help="Compute the cells again.")
@click.option("--keep-checkpoints", is_flag=True, help="Keep each finished cell's last checkpoint.")
@click.option("--dry-run", is_flag=True, help="Show the plan and compute nothing.")
def command(
    experiment: str,
    estimators: tuple[str, ...],
    problems: tuple[str, ...],
    seeds: str | None,
    steps: int | None,
    out: str | None,
    device: str,
    plugins: tuple[str, ...],
    settings: tuple[str, ...],
    *,
    jobs: int | None,
    cluster: str | None,
    slurm: str | None,
    threads: int | None,
    timeout: float | None,
    force: bool,
    keep_checkpoints: bool,
    dry_run: bool,
) -> int:
    """Train what is missing of an experiment, measure, and write a report.

    EXPERIMENT is a TOML file or the name of a ready experiment (`estbench list experiments`); without
    one it is the quickstart. A second run computes nothing; a changed one computes only the new cells.
    """
    from estbench.experiment import find_experiment, read_experiment
    from estbench.experiment.spec import parse_override

    overrides: dict[str, Any] = dict(parse_override(setting) for setting in settings)
    if estimators:
        overrides["estimators"] = list(estimators)
    if problems:
        overrides["problems"] = list(problems)
    if seeds is not None:
        overrides["seeds"] = _seeds(seeds)
    if steps is not None:
        overrides["training.steps"] = steps
    chosen = read_experiment(find_experiment(experiment), overrides)

    from estbench.cli.console import print_answer, say
    from estbench.cli.progress import progress_listener
    from estbench.execution import plan_of, run
    from estbench.plugins import load_plugin
    from estbench.report import build
    from estbench.report.analysis import Analysis
    from estbench.report.analysis.omissions import omissions
    from estbench.store import Status

    if dry_run:
        for plugin in plugins:
            load_plugin(plugin)
        return _print_plan(plan_of(chosen), out)
    with progress_listener() as listener:
        results = run(
            chosen,
            out,
            device=device,
            jobs=jobs,
            cluster=cluster,
            slurm=slurm,
            threads=threads,
            timeout=timeout,
            plugins=plugins,
            force=force,
            keep_checkpoints=keep_checkpoints,
            exit_if_hung=True,
            listener=listener,
        )
    analysis = Analysis(results)
    page = build(analysis)
    print_answer(analysis)
    for sentence in omissions(analysis):
        say(sentence)
    say(f"report: {page}")
    # Cells that failed in other runs are in the table; the exit code is about the cells of this one.
    ended = results.cells.set_index("key")
    bad = 0
    for cell in listener.plan:
        status = ended["status"].get(cell.key, "missing")
        if status not in {Status.DONE, Status.DIVERGED}:
            bad += 1
            reason = ended["stop_reason"].get(cell.key, "")
            say(f"{status}: {listener.names[cell.key]}: {reason} ({cell.folder})", stderr=True, style="red")
    if bad:
        say(f"{bad} of {len(listener.plan)} runs have no result; run again to compute them", stderr=True)
    return 1 if bad else 0


def _seeds(text: str) -> Any:
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise EstbenchError(f"cannot read --seeds '{text}'; write a number of seeds, or seeds like 0,1,2") from None
    return numbers if "," in text else numbers[0] if numbers else 0


def _print_plan(plan: Any, out: str | None) -> int:
    from pathlib import Path

    from estbench.cli.console import print_rows, say
    from estbench.experiment.sweep import swept_training
    from estbench.store import ResultsFolder

    folder = ResultsFolder(out or Path("results") / plan.experiment.name)
    swept = swept_training(plan.experiment.sweep)
    rows = [
        (
            cell.estimator.label,
            cell.problem.label,
            *(str(getattr(cell.training, name)) for name in swept),
            str(cell.seed),
            cell.key[:8],
            str(folder.status(cell.folder) or "to run"),
        )
        for cell in plan
    ]
    print_rows(f"plan of {plan.experiment.name}", ("estimator", "problem", *swept, "seed", "key", "status"), rows)
    say(f"{len(plan)} cells of {plan.experiment.training.steps} steps; nothing was computed")
    return 0
