"""The ready workflows: their commands are real, and no code of a stranger runs where anything may be written."""

from __future__ import annotations

import re
import shlex

import pytest
from pages import ROOT, parse

FOLDER = ROOT / "docs" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
BENCHMARK, COMMENT = (FOLDER / name for name in ("benchmark.yml", "benchmark_comment.yml"))


def commands_in(text):
    """The arguments of each estbench command, with the variables of the workflow filled in."""
    variables = dict(re.findall(r"^ +([A-Z]+): (.+)$", text, flags=re.MULTILINE))
    for line in re.findall(r"/bin/estbench (.+)", text):
        filled = re.sub(r"\$([A-Z]+)", lambda match: variables[match[1]], line)
        yield shlex.split(filled.partition(">")[0])


def permissions_of(text):
    return dict(
        re.findall(
            r"^  ([a-z-]+): (read|write)$", text.partition("permissions:\n")[2].partition("\n\n")[0], re.MULTILINE
        )
    )


def test_the_commands_are_those_of_estbench():
    commands = list(commands_in(BENCHMARK.read_text("utf-8")))
    assert [command[0] for command in commands] == ["run", "run", "diff"]
    for command in commands:
        assert parse(command).command.name


def test_what_runs_code_of_a_pull_request_may_only_read():
    text = BENCHMARK.read_text("utf-8")
    assert permissions_of(text) == {"contents": "read"}
    assert text.count("persist-credentials: false") == text.count("actions/checkout") == 2
    assert "secrets." not in text


def test_what_may_write_runs_no_code_of_a_pull_request():
    text = COMMENT.read_text("utf-8")
    assert permissions_of(text) == {"actions": "read", "pull-requests": "write"}
    assert "workflow_run" in text
    for runs_code in ("checkout", "pip ", "estbench ", "secrets."):
        assert runs_code not in text.replace("# ", "")
    assert "-L table/diff.md" in text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_text_of_an_event_becomes_a_part_of_a_script(file):
    """Names of branches are chosen by strangers: they reach a script as variables only."""
    text = file.read_text("utf-8")
    assert "pull_request_target" not in text
    scripts = re.findall(r"run: \|\n((?: {10}.*\n| *\n)+)", text) + re.findall(r"run: ([^|\n].*)", text)
    assert scripts
    assert not [script for script in scripts if "${{" in script]


def test_the_comment_is_of_the_file_that_the_benchmark_writes():
    assert "name: diff\n" in BENCHMARK.read_text("utf-8")
    assert "workflows: [benchmark]" in COMMENT.read_text("utf-8")
    assert BENCHMARK.read_text("utf-8").count("\nname: benchmark\n") == 1
