"""``estbench site``."""

from __future__ import annotations

import rich_click as click

from estbench.cli.options import plugin_option


@click.command()
@click.argument("paths", type=click.Path(), nargs=-1, required=True, metavar="DIR_OR_FILE...")
@click.option("-o", "--out", required=True, type=click.Path(), metavar="DIR", help="The folder of the site.")
@click.option("--name", default="Results", show_default=True, metavar="TEXT", help="What the first page is called.")
@click.option("--no-figures", is_flag=True, help="Reports with tables only: several times faster and smaller.")
@click.option(
    "--trust-pages",
    multiple=True,
    type=click.Path(),
    metavar="DIR",
    help="Where records are gone, publish the report.html of DIR as it is. It may hold anything: for folders of your "
    "own, among those that are named. May be repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="So many experiments at a time, in processes of their own.",
)
@click.option("--strict", is_flag=True, help="End with exit code 1 if anything was left out.")
@click.option("--open", "open_page", is_flag=True, help="Open the first page in a browser.")
@plugin_option
def command(
    paths: tuple[str, ...],
    out: str,
    name: str,
    jobs: int,
    plugins: tuple[str, ...],
    trust_pages: tuple[str, ...],
    *,
    no_figures: bool,
    strict: bool,
    open_page: bool,
) -> int:
    """Write a site of static pages over many experiments, from archives, results folders, or folders of these.

    Its first page lists the experiments by problem card, with their answers and the rank of every estimator.
    Each experiment has its report, and each estimator a page with its ranks at equal steps and at equal
    evaluations, its gradient variance at shared weights, its certificate, and where the runs came from.

    What several people ran of one experiment (the same name, question and protocol) is merged. What cannot be read, or
    contradicts, is named and left out. A site that is there is replaced as a whole. It needs no server: open
    index.html, or put the folder on GitHub Pages.
    """
    from estbench.cli.console import say, warn
    from estbench.plugins import load_plugin
    from estbench.report.analysis.wording import count_noun
    from estbench.report.site import build_site

    for plugin in plugins:
        load_plugin(plugin)
    site = build_site(
        paths,
        out,
        name=name,
        figures=not no_figures,
        trust_pages=trust_pages,
        jobs=jobs,
        plugins=plugins,
    )
    for path, reason in site.skipped:
        warn(f"left out: {path}: {reason}")
    say(f"site of {count_noun(len(site.entries), 'experiment')}: {site.page}")
    if open_page:
        from estbench.cli.report import open_in_browser

        open_in_browser(site.page)
    return 1 if strict and site.skipped else 0
