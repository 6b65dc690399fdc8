"""``estbench verify``."""

from __future__ import annotations

import rich_click as click

from estbench.cli.options import plugin_option


@click.command()
@click.argument("archive", type=click.Path(), metavar="FILE")
@click.option(
    "--steps",
    default=100,
    show_default=True,
    type=click.IntRange(min=0),
    help="Repeat one seed of each estimator up to its last evaluation within so many steps; 0 for the first one only.",
)
@click.option("--no-repeat", is_flag=True, help="Check the records only, and run nothing.")
@plugin_option
def command(archive: str, steps: int, plugins: tuple[str, ...], *, no_repeat: bool) -> int:
    """Check the records of a stranger: what speaks against them, and what a part of the runs gives here.

    Keys are computed again, numbers have to be in range and agree with each other, and each estimator
    needs a passing certificate of the source that made its numbers. Then one seed of each estimator is run
    again: to the same bits where machine and versions agree, else within the spread of its seeds. A results
    folder can be checked, too. The exit code is 1 if anything speaks against the records.
    """
    from estbench.cli.console import print_rows, say
    from estbench.cli.layout import Column
    from estbench.execution.verify import NOT_REPEATED, choose_sample, repeat
    from estbench.plugins import load_plugin
    from estbench.report.analysis.wording import count_noun
    from estbench.store import load
    from estbench.store.pack import certificates_of
    from estbench.store.verify import inspect

    for plugin in plugins:
        load_plugin(plugin)
    results = load(archive)
    findings = inspect(results, certificates_of(results))
    for finding in findings:
        say(f"{'refused' if finding.refused else 'note'}: {finding.message}")
    refused = sum(finding.refused for finding in findings)
    if refused:
        say(f"{archive}: refused; nothing was run again")
        return 1
    say(f"{archive}: {count_noun(len(results.records), 'run')}; keys, numbers and certificates agree")
    if no_repeat:
        return 0
    runs = [repeat(results, cell, steps) for cell in choose_sample(results)]
    columns = [Column("estimator"), Column("problem"), Column("seed"), Column("step"), Column("found"), Column("why")]
    rows = [[run.estimator, run.problem, str(run.seed), str(run.step), run.verdict, run.reason] for run in runs]
    print_rows("runs that were repeated", columns, rows)
    if any(run.refused for run in runs):
        say(f"{archive}: refused; a run that was repeated differs")
        return 1
    confirmed = sum(run.verdict != NOT_REPEATED for run in runs)
    say(f"{archive}: {confirmed} of {count_noun(len(runs), 'repeated run')} confirmed")
    return 0
