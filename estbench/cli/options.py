"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import rich_click as click

plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="A Python file that registers an estimator, problem, dataset, metric, table or figure. It is run as it is, "
    "and may import the files beside it. May be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

_EXECUTION = (
    click.option("--jobs", type=int, metavar="N", help="So many runs at a time, in worker processes."),
    click.option(
        "--cluster", metavar="ADDRESS", help="A running dask cluster: tcp://HOST:PORT, or its scheduler file."
    ),
    click.option("--slurm", type=click.Path(), metavar="FILE.toml", help="Jobs of SLURM, as the file says."),
    click.option(
        "--threads", type=int, metavar="N", help="Threads of each run.  [default: cores, divided among the runs]"
    ),
    click.option(
        "--timeout", type=float, metavar="SECONDS", help="The longest that a run may take; it ends as `timeout`."
    ),
)


def execution_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options on where cells run, and how long."""
    return reduce(lambda decorated, option: option(decorated), reversed(_EXECUTION), command)
