"""Where output goes: in any encoding, into a pipe that nobody reads any more, or nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest
from conftest import TINY

import estbench

# One of each kind: a listing, a table, words, an error, a group, the help.
COMMANDS = {
    "list": ["list", "problems"],
    "show": ["show", "rebar"],
    "json": ["list", "problems", "--json"],
    "help": ["run", "--help"],
    "data": ["data", "list"],
    "status": ["status", "{folder}"],
    "compare": ["compare", "{folder}", "reparam", "stl"],
    "report": ["report", "{folder}", "--format", "csv"],
    "run": ["run", "{file}", "--out", "{folder}", "--dry-run", "--seeds", "2"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of two estimators, and its experiment file."""
    place = tmp_path_factory.mktemp("streams")
    (place / "tiny.toml").write_text(TINY.replace('["reparam"]', '["reparam", "stl"]'))
    estbench.run({**tomllib.loads(TINY), "estimators": ["reparam", "stl"]}, out=place / "r")
    return place


@pytest.fixture
def started(environment, folder):
    """Start a command in a process of its own."""

    def start(arguments, *, encoding="utf-8", closed="", **options):
        filled = [argument.format(folder=folder / "r", file=folder / "tiny.toml") for argument in arguments]
        words = [sys.executable, "-m", "estbench", *filled]
        if closed:
            words = ["sh", "-c", f'"$@" {closed}', "sh", *words]
        settings = {**environment, "PYTHONIOENCODING": encoding}
        return subprocess.run(words, env=settings, cwd=folder, capture_output=True, check=False, **options)

    return start


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_a_table_in_any_encoding(started, encoding):
    done = started(COMMANDS["compare"], encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "test ELBO" in done.stdout.decode(encoding)
    assert b"\\u" not in done.stdout  # signs of estbench's own have a plain form


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_any_encoding(started, name, encoding):
    done = started(COMMANDS[name], encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)


def left_early(environment, folder, arguments):
    """The exit code and the errors of a command whose reader takes nothing."""
    read, write = os.pipe()
    filled = [argument.format(folder=folder / "r", file=folder / "tiny.toml") for argument in arguments]
    command = subprocess.Popen(
        [sys.executable, "-m", "estbench", *filled], env=environment, cwd=folder, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    os.close(read)
    _, errors = command.communicate(timeout=120)
    return command.returncode, errors


@pytest.mark.slow
def test_a_reader_who_leaves_does_not_end_a_run(environment, folder):
    arguments = ["run", str(folder / "tiny.toml"), "--out", str(folder / "unread"), "--steps", "3"]
    assert left_early(environment, folder, arguments) == (0, b"")
    assert len([*(folder / "unread").glob("cells/*/cell.json")]) == 2
    assert (folder / "unread" / "report" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_who_leaves_ends_no_command_with_an_error(environment, folder, name):
    assert left_early(environment, folder, COMMANDS[name]) == (0, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(started, closed):
    assert started(COMMANDS["status"], closed=closed).returncode == 0


@pytest.mark.slow
def test_an_error_that_nobody_reads(started):
    assert started(["show", "no-such-thing"], closed="2>&-").returncode == 2
