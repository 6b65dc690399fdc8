"""The output of commands at several widths: every line fits, and words, names and numbers stay whole."""

from __future__ import annotations

import itertools
import re
import shutil

import pytest
import records
from hypothesis import given
from hypothesis import strategies as st
from records import write_results
from rich.cells import cell_len

from estbench.cli.layout import Column, lay_out, wrap, wrap_name

WIDTHS = (80, 100, 120)
RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
LIGHT = {"rounds": 2, "replicates": 4}
COMMANDS = {
    "list": ["list"],
    "list --long": ["list", "--long"],
    "show": ["show", "rloo"],
    "show a problem": ["show", "vae"],
    "status": ["status", "r"],
    "compare": ["compare", "r", "reparam", "rloo[num_samples=4]"],
    "answer": ["report", "r", "--format", "md"],
    "answer, several problems": ["report", "several", "--format", "md"],
    "status of several problems": ["status", "several"],
    "compare on several problems": ["compare", "several", "stl", "rloo[num_samples=4]"],
    "probe": ["probe", "-e", "reparam", "-e", "rloo[num_samples=4]", "--replicates", "4", "--problem", "gaussian_toy"],
    "compare, one seed": ["compare", "one", "reparam", "stl"],
    "diff": ["diff", "worse", "r"],
    "doctor": ["doctor"],
    "data": ["data", "list"],
    "cards": ["reproduce", "--list"],
    "plan": ["run", "quickstart", "--dry-run"],
    "a mistake": ["show", "reparametrisation"],
    "another mistake": ["compare", "r", "reparam", "none"],
}
# Where a word may be broken: at blanks; the name of a variant after "[" or ",", and a title at nothing else.
PARTS = re.compile(r"[^\s,\[]+[,\[]*|[,\[]+")
# What a table says below it of its columns.
LEFT_OUT = re.compile(r"^left out: [^(]*?(?:\([^()]*\)[^(]*?)*\(shown from[^)]*\)", re.MULTILINE)
# An address, a folder and the entry of a bibliography are shown as they are.
LITERAL = re.compile(r"https?://|/|@|\w+ = \{|>>>|\.\.\. ")


def parts(text):
    """Every piece of a text that is never broken."""
    return set(PARTS.findall(text))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Results with several seeds and with one."""
    here = tmp_path_factory.mktemp("written")
    write_results(here / "r", ["reparam", "stl", "rloo[num_samples=4]"], 3, **LIGHT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(records.BEHAVIOURS, "stl", records.BEHAVIOURS["stl"]._replace(elbo=-126.0, variance=0.4))
        write_results(here / "worse", ["reparam", "stl", "detached"], 3, **LIGHT)
    write_results(here / "one", ["reparam", "stl"], 1, **LIGHT)
    problems = [f"vae[dataset=mnist,hidden=[200,200],importance_samples={count}]" for count in (5, 50)]
    failed = {("stl", 1): "failed", ("rloo[num_samples=4]", 0): "diverged"}
    write_results(here / "several", ["stl", "rloo[num_samples=4]"], 3, problems=problems, statuses=failed, **LIGHT)
    return here


@pytest.fixture
def folders(here, written):
    """Copies of these results in the working folder."""
    shutil.copytree(written, here, dirs_exist_ok=True)


# Those of several problems show all that these do.
LIKE_OTHERS = {"answer", "compare", "status"}


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.slow] * (name in LIKE_OTHERS)) for name in COMMANDS]
)
def test_every_line_fits_and_nothing_is_cut(estbench, folders, monkeypatch, command):
    from estbench.cli.console import console

    told = {}
    for columns in (*WIDTHS, 2000):
        monkeypatch.setenv("COLUMNS", str(columns))
        console.cache_clear()
        ticks = itertools.count()  # so that all that is timed takes as long each time
        monkeypatch.setattr("time.perf_counter", lambda ticks=ticks: next(ticks) / 1000)
        code, out, err = estbench(*COMMANDS[command])
        assert code == (2 if "mistake" in command else 0)
        told[columns] = out + err
    console.cache_clear()
    wide = parts(told[2000])
    for width in WIDTHS:
        for line in told[width].splitlines():
            assert cell_len(line) <= width or LITERAL.search(line), line
        # What a narrow terminal alone says is which columns it has left out, with all of their titles.
        own = LEFT_OUT.findall(told[width])
        assert bool(own) or "left out" not in told[width]
        for sentence in own:
            titles = sentence.partition(":")[2].rpartition("(shown from")[0].replace("interval of", "")
            assert {part.strip(";") for part in parts(titles)} <= {part.strip(";") for part in wide}
        narrow = parts(LEFT_OUT.sub("", told[width])) - {part for part in parts(told[width]) if set(part) == {RULE}}
        assert narrow <= wide


def test_without_a_width_a_pipe_has_whole_lines(estbench, here):
    long = estbench("show", "reparametrisation").err
    assert long.count("\n") == 1
    assert cell_len(long) > 80


def test_facts_are_in_the_long_list_and_names_are_in_order(estbench, here):
    short, long = estbench("list", "estimators").out, estbench("list", "estimators", "--long").out
    names = [line.split("  ")[0] for line in short.splitlines()[3:] if line and line[0] != " " and "  " in line]
    assert names == sorted(names)
    assert "unbiased" not in short[: short.index(RULE)]
    assert "unbiased" in long[: long.index(RULE)]


def test_one_seed_is_said_once(estbench, folders):
    said = estbench("compare", "one", "reparam", "stl").out
    assert "no interval" not in said[said.index("reparam against stl") :]
    assert len(re.findall(r"\b1 seed\b", said)) == 1


TABLE = (Column("name", "name", keep=True), Column("seed", "number", 2), Column("problem", "name", 1), Column("why"))


def test_the_least_important_columns_go_first_and_are_named():
    rows = [(f"estimator{at}", str(at), f"a_problem_with_a_long_name_{at}", "of reasons") for at in range(3)]
    wide, middle, narrow = (lay_out(TABLE, rows, width) for width in (80, 45, 20))
    assert wide.left_out == []
    assert "seed" in middle.left_out
    assert set(narrow.left_out) == {"seed", "problem"}
    assert wide.needed <= 80
    assert lay_out(TABLE, rows, wide.needed).left_out == []


def test_a_constant_column_is_said_once():
    rows = [(name, "0", "vae", "") for name in ("reparam", "stl")]
    layout = lay_out(TABLE, rows, 80)
    assert layout.same == {"seed": "0", "problem": "vae"}
    assert layout.left_out == []
    assert not any("vae" in line for lines in layout.rows for line in lines)


@given(st.lists(st.text("abc.5", min_size=1, max_size=12), min_size=1, max_size=20), st.integers(12, 40))
def test_words_are_wrapped_whole(words, width):
    lines = wrap(" ".join(words), width)
    assert " ".join(lines).split() == words
    assert all(cell_len(line) <= width for line in lines)


def test_a_name_is_broken_after_a_bracket_or_a_comma():
    name = "vae[dataset=digits,latent_size=4,hidden=[20]]"
    lines = wrap_name(name, 20)
    assert "".join(line.strip() for line in lines) == name
    assert all(line.endswith((",", "[", "]")) for line in lines)
