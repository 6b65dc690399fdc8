"""Tables in LaTeX: they compile, are no wider than they say, and the short form fits a column of an article."""

from __future__ import annotations

import re
import shutil
import subprocess

import pandas as pd
import pytest

from estbench.report.tables.base import Table
from estbench.report.tables.entry import Column, Entry
from estbench.report.tables.latex import COLUMN_WIDTH, MOST_LINES, MOST_SHORT_COLUMNS, POINTS, TEXT_WIDTH

FORMS = {"full": (False, TEXT_WIDTH, "table*"), "short": (True, COLUMN_WIDTH, "table")}
PREAMBLE = r"""
\documentclass[10pt]{article}
\usepackage{booktabs,tabularx}
\newsavebox{\measured}
\setlength{\textwidth}{%.2fpt}
\hfuzz=0.5pt
\begin{document}
"""


def claimed(text):
    """The width in points that a file says it needs."""
    return float(re.search(r"% Needs .* ([\d.]+) in", text)[1]) * POINTS


@pytest.mark.parametrize("form", FORMS)
def test_every_table_has_a_form_for_a_page_and_one_for_a_column(tables, form):
    short, width, environment = FORMS[form]
    for table in tables.values():
        text = table.to_latex(short=short)
        needed = re.search(r"^% Needs \\usepackage\{(.*)\}; ", text, re.MULTILINE)[1]
        assert ("tabularx" in needed) == (r"\begin{tabularx}" in text)
        assert "resizebox" not in text
        assert claimed(text) <= width + 0.05 * POINTS
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") >= 1
        rows = [line for line in text.splitlines() if re.search(r" \\\\(\[.*\])?$", line)]
        assert len(rows) > len(table.rows)
        if short:
            assert all(row.count(" & ") < MOST_SHORT_COLUMNS for row in rows)
            assert len(re.search(r"\\caption\{.*", text)[0]) < 300


@pytest.mark.parametrize("name", ["ranking", "summary", "pairwise", "equal_cost", "throughput"])
def test_the_short_form_has_half_intervals(tables, name):
    text = tables["many", name].to_latex(short=True)
    assert re.search(r"\d \$\\pm\$ [\d.]+\b.* \\\\$", text, re.MULTILINE)
    assert "half of the 95" in text


@pytest.mark.parametrize("form", FORMS)
def test_the_two_forms_have_labels_of_their_own(tables, form):
    labels = re.findall(
        r"\\label\{(.*)\}",
        "".join(
            tables["many", name].to_latex(short=FORMS[form][0])
            for name in ("ranking", "summary", "first_crossings", "pairwise")
        ),
    )
    assert len(labels) == len(set(labels)) > 4
    assert all(("-short" in label) == FORMS[form][0] for label in labels)


def test_a_long_table_is_divided_into_parts_of_a_page():
    rows = tuple((Entry(f"e{at}"), Entry(str(at))) for at in range(MOST_LINES + 1))
    columns = (Column("estimator", numeric=False, head=True), Column("value"))
    text = Table("long", "Long", "C.", pd.DataFrame(), columns, rows, frozenset({1, MOST_LINES})).to_latex()
    assert text.count(r"\begin{table*}") == text.count(r"\toprule") == 2
    assert "(part 2 of 2)" in text
    assert text.count(r"\midrule") == 3  # below the titles, and one rule: none at the start of a part


def test_what_does_not_fit_the_column_is_named():
    columns = (Column("estimator", numeric=False, head=True), *(Column(f"value {at}") for at in range(7)))
    rows = ((Entry("a"), *[Entry("123456789.0123", short="123456789.0123 \N{PLUS-MINUS SIGN} 0.5")] * 7),)
    text = Table("wide", "Wide", "", pd.DataFrame(), columns, rows).to_latex(short=True)
    assert text.startswith("% Left out: value 2, ")
    assert claimed(text) <= COLUMN_WIDTH


def compile_latex(folder, body, width):
    """Return the log of LaTeX."""
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("no pdflatex is installed (Debian: texlive-latex-base, texlive-latex-recommended)")
    (folder / "all.tex").write_text(PREAMBLE.strip() % width + "\n" + body + "\n\\end{document}\n", encoding="utf-8")
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    log = (folder / "all.log").read_text(encoding="utf-8", errors="replace").replace("\r", "")
    assert done.returncode == 0, log[-2000:]
    return log


@pytest.mark.latex
@pytest.mark.parametrize("form", FORMS)
def test_every_table_compiles_and_is_as_wide_as_it_says(tables, form, tmp_path):
    short, width, environment = FORMS[form]
    body, claims = [], {}
    for (kind, name), table in tables.items():
        text = table.to_latex(short=short)
        body += [text, r"\clearpage"]
        for part, inside in enumerate(
            re.findall(rf"\\begin\{{{re.escape(environment)}\}}.*?\\end\{{{re.escape(environment)}\}}", text, re.DOTALL)
        ):
            size, tabular = re.search(r"\\centering(\\\w+)", inside)[1], inside[inside.index(r"\begin{tabular") :]
            tabular = tabular[: tabular.index(r"\end{table")].rstrip()
            key = f"{kind} {name} {part}".replace("_", "-")
            claims[key] = width if "tabularx" in tabular else claimed(text)
            body.append(rf"\sbox{{\measured}}{{{size}\setlength{{\tabcolsep}}{{3pt}}{tabular}}}")
            body.append(rf"\typeout{{WIDTH {key}: \the\wd\measured}}")
    log = compile_latex(tmp_path, "\n".join(body), width)
    measured = {key: float(points) for key, points in re.findall(r"WIDTH (.*): ([\d.]+)pt", log)}
    assert measured.keys() == claims.keys()
    assert len(measured) > 60
    assert {key: points for key, points in measured.items() if points > min(claims[key] + 0.05 * POINTS, width)} == {}
    assert "too narrow" not in log
    assert "Float too large" not in log
    assert re.findall(r"Overfull \\hbox.*", log) == []


@pytest.mark.latex
def test_no_text_is_a_command(tmp_path):
    texts = [r"\input{x} & % $a_1$ #{~^} <|> [1] \\ 'q' " + '"q"', "a\nb", "\N{MINUS SIGN}1.5e\N{MINUS SIGN}7 [1, 2]"]
    columns = (Column("estimator", numeric=False, head=True), Column(texts[0], short=texts[0]))
    rows = tuple((Entry(text), Entry(text, text, short=text)) for text in texts)
    table = Table("hostile", texts[0], texts[0], pd.DataFrame(), columns, rows, frozenset({1}), short_caption=texts[0])
    compile_latex(tmp_path, table.to_latex() + table.to_latex(short=True), TEXT_WIDTH)
