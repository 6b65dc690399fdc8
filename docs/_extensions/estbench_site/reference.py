"""The reference pages: the experiment file, the columns of results, and the command line."""

from __future__ import annotations

from pydantic import BaseModel

from estbench.cli import COMMANDS
from estbench.experiment import Evaluation, Experiment, Probe, Schedule, Throughput, Training
from estbench.store.columns import LABELS, TABLES, Column
from estbench_site.docstrings import to_markdown
from estbench_site.fields import fields_table
from estbench_site.markdown import code, page, section, table

SECTIONS: dict[str, type[BaseModel]] = {
    "[training]": Training,
    "[evaluation]": Evaluation,
    "[probe]": Probe,
    "[throughput]": Throughput,
    "A schedule": Schedule,
}
# Keys that a run sets and a file must not have.
SET_BY_A_RUN = frozenset({"source"})
EXAMPLE = """\
```toml
estimators = ["reparam", "rloo[num_samples=4]"]
seeds = 3

[training]
steps = 1000
kl_weight = {start = 0.0, end = 1.0, steps = 500}
```"""


def experiment_file_page() -> str:
    """Return the page of all keys of an experiment file."""
    sections = [
        section(title, to_markdown(_first_paragraph(model)), fields_table(model, "key", without=SET_BY_A_RUN))
        for title, model in SECTIONS.items()
    ]
    return page(
        "The experiment file",
        "An experiment is a TOML file. An unknown key is an error that names the nearest known one. `--set KEY=VALUE`"
        " changes a key on the command line, for example `--set training.steps=500`.",
        EXAMPLE,
        section("The file", fields_table(Experiment, "key")),
        *sections,
    )


def columns_page() -> str:
    """Return the page of the columns of all recorded tables."""
    sections = [
        section(f"`results.{name}`", f"{each.rows[0].upper()}{each.rows[1:]}.", _columns_table(each.columns))
        for name, each in TABLES.items()
    ]
    labels = section(
        "Columns in front",
        "`curves`, `gradients` and `pictures` of loaded results also say whose rows they are. After these columns comes"
        " one for each swept setting of training.",
        _columns_table(LABELS),
    )
    files = "They are the data frames of `estbench.load(DIR)`. On disk they are Parquet files with the same columns."
    return page("The columns of results", files, *sections, labels)


def command_line_page() -> str:
    """Return the page of all commands, made by sphinx-click from the commands themselves."""
    blocks = "\n\n".join(
        f".. click:: estbench.cli.{name.replace('-', '_')}:command\n   :prog: estbench {name}\n   :nested: full"
        for name in COMMANDS
    )
    codes = table(
        ["exit code", "meaning"],
        [["0", "done"], ["1", "some run failed"], ["2", "misuse"], ["130", "interrupted"]],
    )
    return page("The command line", codes, f"```{{eval-rst}}\n{blocks}\n```")


def _columns_table(columns: tuple[Column, ...]) -> str:
    rows = [[code(each.name), str(each.type), each.meaning, each.unit] for each in columns]
    return table(["column", "type", "meaning", "unit"], rows)


def _first_paragraph(model: type) -> str:
    return (model.__doc__ or "").partition("\n\n")[0].strip()
