"""``estbench report``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from estbench.cli.options import plugin_option
from estbench.errors import EstbenchError

if TYPE_CHECKING:
    from estbench.report.analysis import Analysis

MOST_SECONDS = 3600


def _interval(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not (math.isfinite(value) and 0.1 <= value <= MOST_SECONDS):
        raise click.BadParameter(f"takes 0.1 to {MOST_SECONDS} seconds, not {value:g}")
    return value


@click.command()
@click.argument("folders", type=click.Path(), nargs=-1, required=True, metavar="DIR [DIR2...]")
@click.option("--out", type=click.Path(), metavar="DIR", help="Where to write.  [default: report/ in the first DIR]")
@click.option(
    "--format",
    "formats",
    metavar="A,B,...",
    help="Which of html, csv, md, tex, svg, png, pdf to write.  [default: all but pdf]",
)
@click.option(
    "--width", type=float, metavar="INCHES", help="How wide the files of figures are: 3.3 for a column.  [default: 7.4]"
)
@click.option(
    "--target", type=float, metavar="NATS", help="The test bound to reach; default: 1, 5 and 20 below the best."
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option("--watch", is_flag=True, help="Build again whenever a cell ends, until Ctrl-C (exit code 0).")
@click.option(
    "--interval",
    type=float,
    default=2.0,
    show_default=True,
    callback=_interval,
    metavar="SECONDS",
    help="How often --watch looks.",
)
@plugin_option
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard event files, too: tensorboard/ in the report.")
def command(
    folders: tuple[str, ...],
    out: str | None,
    formats: str | None,
    width: float | None,
    target: float | None,
    interval: float,
    plugins: tuple[str, ...],
    *,
    open_page: bool,
    watch: bool,
    tensorboard: bool,
) -> None:
    """Rebuild tables, figures and report.html of results folders, from their records only.

    Several folders make one report, in report/ of the first or in --out. A cell that several folders hold
    counts once if they agree on it; conflicting cells and different protocols are refused. Timings of
    different machines stay apart. report/ holds only the chosen formats; in --out nothing is removed.

    A plugin may add tables and figures of its own, with register_table and register_figure.

    A page that is watched loads itself again every few seconds; the one that Ctrl-C leaves does not.
    """
    from estbench.report.formats import as_formats, as_width
    from estbench.report.helper import drawing_helper

    if target is not None and not math.isfinite(target):
        raise EstbenchError(f"--target takes a number of nats, not {target}")
    chosen = as_formats(None if formats is None else formats.split(","))
    width = None if width is None else as_width(width)
    if open_page and "html" not in chosen:
        raise EstbenchError("--open has no page to open; add html to --format")

    with drawing_helper(wanted=width is None) as helper:
        from estbench.cli.console import answer_of, print_answer, say, warn
        from estbench.plugins import load_plugin
        from estbench.report import build
        from estbench.report.analysis import Analysis
        from estbench.report.watch import REFRESH
        from estbench.store import load_many
        from estbench.store.homes import report_folder

        for plugin in plugins:
            load_plugin(plugin)

        def make(refresh: int | None = None) -> tuple[Analysis, Path]:
            results = load_many(folders)
            if target is not None:
                plan = {**results.plan, "experiment": {**results.plan["experiment"], "target": target}}
                results = dataclasses.replace(results, plan=plan)
            if tensorboard:  # first: where the extra is missing, nothing is written
                from estbench.guarded import GuardedPath
                from estbench.report.tensorboard import write_events

                write_events(results, (GuardedPath(out) if out else report_folder(results.path)) / "tensorboard")
            analysis = Analysis(results)
            page = build(analysis, chosen, out=out, refresh=refresh, width=width, helper=helper, warn=warn)
            return analysis, page

        analysis, page = make(REFRESH if watch else None)
        if open_page:
            open_in_browser(page)
        if watch:
            say(f"watching; press Ctrl-C to stop. report: {page}")
            _watch(folders, interval, lambda: make(REFRESH)[0])
            analysis, page = make()
        print_answer(answer_of(analysis))
        say(f"report: {page}")


def _watch(folders: tuple[str, ...], interval: float, rebuild: Callable[[], Analysis]) -> None:
    """Rebuild at every change, until Ctrl-C; what cannot be read just now may be read after the next change."""
    from estbench.cli.console import say
    from estbench.report.analysis.notices import status_line
    from estbench.report.watch import changes

    try:
        for _ in changes(folders, interval):
            try:
                message = status_line(rebuild().whole)
            except EstbenchError as error:
                message = f"not rebuilt: {error}"
            say(message)
    except KeyboardInterrupt:
        return


def open_in_browser(page: Path) -> None:
    """Open a page in the user's browser, or say that there is none."""
    import webbrowser

    from estbench.cli.console import say

    if not webbrowser.open(page.resolve().as_uri()):
        say(f"found no browser; open {page}", stderr=True)
