"""``estbench run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from estbench.cli.completion import complete
from estbench.cli.options import execution_options, plugin_option
from estbench.errors import EstbenchError

if TYPE_CHECKING:
    from estbench.cli.progress import LineProgress
    from estbench.experiment import Cell, Experiment
    from estbench.store import Results

# Runs without a result that are named for each reason; the others are counted.
MOST_NAMED = 3


@click.command(no_args_is_help=False)
@click.argument("experiment", default="quickstart", metavar="[EXPERIMENT.toml]", shell_complete=complete("experiments"))
@click.option(
    "-e",
    "--estimator",
    "estimators",
    multiple=True,
    metavar="NAME[opts]",
    shell_complete=complete("estimators"),
    help="Estimators, in place of the experiment's; for example 'rloo[num_samples=4]'. May be repeated.",
)
@click.option(
    "--problem",
    "problems",
    multiple=True,
    metavar="NAME[opts]",
    shell_complete=complete("problems"),
    help="Problems, in place of the experiment's; for example 'vae[latent_size=50]'. May be repeated.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    shell_complete=complete("metrics"),
    help="Metrics to measure with the bounds, in place of the experiment's. May be repeated.",
)
@click.option("--seeds", metavar="N | A,B,...", help="A number of seeds, or the seeds themselves.")
@click.option("--steps", type=int, metavar="N", help="Training steps.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Results folder.  [default: results/EXPERIMENT]")
@click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    show_default=True,
    help="Where to compute: cpu, cuda, cuda:1, mps, xpu; auto is CUDA if there is one.",
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
@click.option("--force", is_flag=True, help="Compute finished runs again.")
@click.option("--keep-checkpoints", is_flag=True, help="Keep the last checkpoint of each finished run.")
@click.option("--dry-run", is_flag=True, help="Show the plan and compute nothing.")
def command(
    experiment: str,
    estimators: tuple[str, ...],
    problems: tuple[str, ...],
    metrics: tuple[str, ...],
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
    one it is the quickstart. A second run computes nothing; a changed one computes only what is new.
    """
    from estbench.experiment import find_experiment, read_experiment
    from estbench.experiment.spec import parse_override

    overrides: dict[str, Any] = dict(parse_override(setting) for setting in settings)
    if estimators:
        overrides["estimators"] = list(estimators)
    if problems:
        overrides["problems"] = list(problems)
    if metrics:
        overrides["evaluation.metrics"] = list(metrics)
    if seeds is not None:
        overrides["seeds"] = _seeds(seeds)
    if steps is not None:
        overrides["training.steps"] = steps
    chosen = read_experiment(find_experiment(experiment), overrides)
    if problems:
        chosen = _without_texts(chosen, overrides, out)

    from estbench.cli.again import Note
    from estbench.cli.console import answer_of, print_answer, say, warn, working

    alone = not (plugins or cluster or slurm)
    note = Note(chosen, out, device=device, threads=threads) if alone and not dry_run else None
    if note and not force and note.print_again():
        return 0

    with working("starting"):  # torch takes seconds to import
        from estbench.cli.progress import describe_plan, progress_listener
        from estbench.execution import plan_of, run
        from estbench.plugins import load_plugin
        from estbench.report import build
        from estbench.report.analysis import Analysis
        from estbench.report.analysis.omissions import omissions

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
    with working("writing the report"):
        analysis = Analysis(results)
        lost: list[str] = []
        page = build(analysis, warn=lost.append)
    for message in lost:
        warn(message)
    answer = answer_of(analysis)
    answer.sentences.extend(omissions(analysis))
    print_answer(answer)
    say(f"report: {page}")
    if _name_failures(results, listener):
        return 1
    if note and not lost:
        note.write(describe_plan(listener.plan, len(listener.plan)), answer, page)
    return 0


def _name_failures(results: Results, listener: LineProgress) -> bool:
    """Name the cells of this run that have no result, each reason once; return whether there are some.

    Cells that failed in earlier runs are in the table; the exit code is about the cells of this one.
    """
    from estbench.cli.console import say
    from estbench.report.analysis.wording import count_noun
    from estbench.store import Status

    ended = results.cells.set_index("key")
    failures: dict[tuple[str, str], list[Cell]] = {}
    for cell in listener.plan:
        status = str(ended["status"].get(cell.key, "missing"))
        if status not in {Status.DONE, Status.DIVERGED}:
            failures.setdefault((status, str(ended["stop_reason"].get(cell.key, ""))), []).append(cell)
    for (status, reason), cells in failures.items():
        named = "; ".join(listener.names[cell.key] for cell in cells[:MOST_NAMED])
        more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
        say(f"{status}: {named}{more}: {reason} (see {cells[0].folder})", stderr=True, style="red")
    lost = sum(map(len, failures.values()))
    if lost:
        them = "it" if lost == 1 else "them"
        say(
            f"{lost:,} of {count_noun(len(listener.plan), 'run')} {'has' if lost == 1 else 'have'} no result; "
            f"run again to compute {them}",
            stderr=True,
        )
    return bool(lost)


def _without_texts(experiment: Experiment, overrides: dict[str, Any], out: str | None) -> Experiment:
    """Return an experiment without what is said of the one that it began as; it is called as its results folder."""
    from pathlib import Path

    from estbench.experiment.spec import TEXTS, WORDS
    from estbench.variant import NAME

    dropped = {name: "" if name in WORDS else () for name in (*WORDS, *TEXTS) if name not in overrides}
    name = Path(out).name.lower() if out else ""
    if "name" not in overrides and NAME.fullmatch(name):
        dropped["name"] = name
    return experiment.model_copy(update=dropped)


def _seeds(text: str) -> Any:
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise EstbenchError(f"cannot read --seeds '{text}'; write a number of seeds, or seeds like 0,1,2") from None
    return numbers if "," in text else numbers[0] if numbers else 0


def _print_plan(plan: Any, out: str | None) -> int:
    from pathlib import Path

    from estbench.cli.console import print_rows, say
    from estbench.cli.layout import Column
    from estbench.experiment.sweep import swept_training
    from estbench.report.analysis.wording import count_noun
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
    columns = (
        Column("estimator", "name", keep=True),
        Column("problem", "name"),
        *(Column(name, "number") for name in (*swept, "seed")),
        Column("key", keep=True),
        Column("status", keep=True),
    )
    print_rows(f"plan of {plan.experiment.name}", columns, rows, group="problem")
    say(f"{count_noun(len(plan), 'run')} of {plan.experiment.training.steps:,} steps; nothing was computed")
    return 0
