"""``estbench new``."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

import rich_click as click

from estbench.errors import EstbenchError, did_you_mean

if TYPE_CHECKING:
    from estbench.registry import Registry


def _estimators() -> Registry[Any]:
    from estbench.estimators import ESTIMATORS

    return ESTIMATORS


def _problems() -> Registry[Any]:
    from estbench.problems import PROBLEMS

    return PROBLEMS


def _networks() -> Registry[Any]:
    from estbench.problems import PARTS

    return PARTS["network"]


def _datasets() -> Registry[Any]:
    from estbench.datasets import DATASETS

    return DATASETS


def _metrics() -> Registry[Any]:
    from estbench.measure import METRICS

    return METRICS


class Kind(NamedTuple):
    """A kind of entry: the registry that must not have its name yet, and commands to begin with."""

    registry: Callable[[], Registry[Any]]
    commands: dict[str, str]


# The files of a kind are made from _templates/KIND.py.txt and _templates/test_KIND.py.txt.
KINDS = {
    "estimator": Kind(
        _estimators,
        {
            "check it": "estbench check --plugin $file $name",
            "compare it": "estbench run --plugin $file -e $name -e reparam",
        },
    ),
    "network": Kind(
        _networks,
        {
            "check it": "estbench check --plugin $file --problem 'vae[dataset=digits,network=$name]'",
            "run it": "estbench run --plugin $file --problem 'vae[dataset=digits,network=$name]' -e reparam",
        },
    ),
    "problem": Kind(
        _problems,
        {
            "check it": "estbench check --plugin $file --problem $name",
            "run it": "estbench run --plugin $file --problem $name -e reparam",
        },
    ),
    "dataset": Kind(_datasets, {"run it": "estbench run --plugin $file --problem 'vae[dataset=$name]' -e reparam"}),
    "metric": Kind(_metrics, {"run it": "estbench run --plugin $file --metric $name -e reparam"}),
}

# The estimator that does what the answer to an exercise does. Its file is made from _templates/exercise_NAME.py.txt.
EXERCISES = {"pathwise": "reparam", "score-function": "reinforce", "leave-one-out": "rloo[num_samples=4]"}
ANSWER = {"check your answer": "estbench check --plugin $file $name"}


@click.command(no_args_is_help=False)
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option(
    "--exercise",
    type=click.Choice(list(EXERCISES)),
    is_flag=False,
    flag_value="leave-one-out",
    help="Write an estimator with a TODO in it, whose check fails until the answer is right.  [default: leave-one-out]",
)
def command(kind: str | None, name: str | None, exercise: str | None) -> None:
    """Write a new estimator, network, problem, dataset or metric, NAME.py, and its test.

    KIND is estimator, network, problem, dataset or metric. Both files work as they are, and are meant to be changed.
    """
    from estbench.cli.console import say
    from estbench.variant import NAME

    if kind is None:
        raise EstbenchError(f"write estbench new KIND NAME; a KIND is {', '.join(KINDS)}")
    if kind not in KINDS:
        raise EstbenchError(
            f"nothing new of the kind '{kind}'; {did_you_mean(kind, KINDS)}; write estbench new KIND NAME"
        )
    if exercise and kind != "estimator":
        raise EstbenchError(f"--exercise is for estimators; write estbench new estimator NAME --exercise {exercise}")
    if name is None:
        raise EstbenchError(f"the {kind} has no name; write estbench new {kind} NAME")
    words = name.replace("-", "_")
    cls = "".join(word.capitalize() for word in words.split("_"))
    if not NAME.fullmatch(name) or not name[0].isalpha() or keyword.iskeyword(cls):
        raise EstbenchError(f"invalid {kind} name '{name}': begin with a-z, then use a-z, 0-9, - and _")
    if name in KINDS[kind].registry().names():
        raise EstbenchError(f"the {kind} '{name}' exists already; choose another name")
    plugin, test = Path(f"{words}.py"), Path(f"test_{words}.py")
    for path in (plugin, test):
        if path.exists():
            raise EstbenchError(f"'{path}' exists already, and is not overwritten; choose another name")
    content = {"name": name, "cls": cls, "file": plugin.name, "test": test.name}
    template, tested, commands = kind, kind, KINDS[kind].commands
    if exercise:
        content["reference"] = EXERCISES[exercise]
        template, tested, commands = f"exercise_{exercise}", "exercise", ANSWER
    plugin.write_text(_template(f"{template}.py.txt").substitute(content), encoding="utf-8")
    test.write_text(_template(f"test_{tested}.py.txt").substitute(content), encoding="utf-8")
    say(f"written: {plugin}, {test}")
    commands = {"test it": "python -m pytest $test", **commands}
    for purpose, line in commands.items():
        say(f"{purpose + ':':<{max(map(len, commands)) + 1}} {Template(line).substitute(content)}")


def _template(file: str) -> Template:
    return Template(resources.files("estbench.cli").joinpath("_templates", file).read_text(encoding="utf-8"))
