"""The command line: one thin module per command, imported when it is called."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import rich_click as click
from click.exceptions import Exit

from estbench._version import __version__
from estbench.cli import completion, streams
from estbench.errors import FAULTS_OF_THE_MACHINE, EstbenchError, ReadError, did_you_mean

COMMANDS = {
    "run": "train what is missing, measure, and write a report",
    "probe": "measure gradient variance, bias and cost at frozen weights, without training",
    "report": "rebuild tables, figures and report.html from the records only",
    "site": "write static pages over many experiments: which estimator leads on which problem",
    "compare": "two estimators side by side, with intervals and a verdict in words",
    "diff": "two results of the same runs, of two commits for example: what changed beyond noise",
    "check": "test estimators: the certificate",
    "new": "write a new estimator, problem, dataset or metric and its test, to start from",
    "status": "planned, done, diverged, failed, missing: one line per run",
    "log": "when the runs of a folder came, from which commit and source, and which are stale",
    "merge": "merge results folders, of several machines for example, into a new one",
    "pack": "write the records of results into one file, to publish them",
    "fetch-results": "get published results and unpack them, to add to them",
    "verify": "check the records of a stranger, and run a part of them again",
    "clean": "remove files that killed runs left behind; asks first",
    "data": "list, fetch and verify the files of datasets, and look at your own",
    "list": "name the estimators, problems, datasets, metrics and ready experiments",
    "show": "explain one of these: equation, options, facts, reference",
    "reproduce": "test claims of the literature: reproduction cards",
    "doctor": "check this machine and this installation",
}


class LazyCommand(click.RichCommand):
    """A command's name and one line; the command itself is imported when it is called."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """The context of the command that this one stands for."""
        command: click.Command = importlib.import_module(f"estbench.cli.{str(self.name).replace('-', '_')}").command
        return command.make_context(*args, **kwargs)


class LazyGroup(click.RichGroup):
    """Knows its commands by name and one line each, so that ``estbench --help`` imports next to nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a first session."""
        return [*COMMANDS]  # `list` is the name of a module of this package, once that is imported

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, not yet imported; None if there is none of this name and a shell asks for completions."""
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:
                return None
            raise EstbenchError(f"unknown command '{cmd_name}'; {did_you_mean(cmd_name, COMMANDS)}")
        return LazyCommand(name=cmd_name, short_help=COMMANDS[cmd_name])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def group() -> None:
    """Which gradient estimator should I use? Measure it.

    Train identical VAEs that differ only in the gradient estimator; measure gradient variance, ELBO
    convergence and throughput; read one report. Start with `estbench run --estimator reparam`.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 some run failed, 2 misuse, 130 interrupted."""
    streams.prepare()
    code = _exit_code(arguments)
    if arguments is None:  # the process is this command's own
        from estbench.processes import end_process

        end_process(code)
    sys.exit(code)


def _exit_code(arguments: list[str] | None) -> int:
    try:
        outcome: Any = group.main(arguments, prog_name="estbench", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except EstbenchError as error:
        return _complain(str(error), 2)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted; finished runs are saved, run again (without --force) to resume", 130)
    except (SystemExit, GeneratorExit) as error:  # no command raises one; click does after help and completions
        if isinstance(error, SystemExit) and completion.is_completing():
            return int(error.code or 0)
        if isinstance(error, SystemExit) and isinstance(error.__context__, (click.ClickException, Exit)):
            return 2
        from estbench.failures import described

        return _complain(f"a plugin ended the command by {described(error)}; correct the plugin, and run again", 1)
    except ConnectionError as error:
        return _complain(str(error), 1)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _complain(f"'{error.filename}': {error.strerror}", 2)
        if error.errno not in FAULTS_OF_THE_MACHINE:
            raise
        where = f" '{error.filename}'" if error.filename else ""
        doing = "read" if isinstance(error, ReadError) else "write"
        return _complain(f"cannot {doing}{where}: {error.strerror}; finished runs are saved, run again to resume", 1)
    return outcome if isinstance(outcome, int) else 0


def _complain(message: str, code: int) -> int:
    """One line on standard error; a terminal shows it as several, broken at blanks."""
    from estbench.cli.console import say

    say(f"Error: {' '.join(message.split())}", stderr=True)
    return code
