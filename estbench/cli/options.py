"""Options that several commands share."""

from __future__ import annotations

import rich_click as click

plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="A Python file that registers an estimator, problem or dataset. It is run as it is.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
