"""Docstrings, comments, messages and pages are in plain English, for readers whose language it is not."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

import estbench

ROOT = Path(__file__).parents[1]
PACKAGE = Path(estbench.__file__).parent
SOURCES = sorted({*PACKAGE.rglob("*.py"), *(ROOT / "experiments").rglob("*.py")})
FOLDERS = ("*.md", ".github/*.md", "docs/**/*.md", "results/*.md", "experiments/**/*.md")
PAGES = [*(page for folder in FOLDERS for page in ROOT.glob(folder)), *PACKAGE.rglob("*.j2")]
# A word that must be read twice, and the plain one.
PLAIN = {"anew": "again", "whence": "from where", "thereof": "of it", "hitherto": "so far", "lest": "so that ... not"}


@cache
def texts_of(file):
    """Return the comments and strings of a Python file, or the whole of a page; each is read once."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(token.string for token in tokens if token.type in {tokenize.COMMENT, tokenize.STRING})


def test_there_is_something_to_read():
    assert len(SOURCES) > 100
    assert len(PAGES) > 4


@pytest.mark.parametrize("word", PLAIN)
def test_plain_words_are_used(word):
    found = [file.name for file in (*SOURCES, *PAGES) if re.search(rf"\b{word}\b", texts_of(file), re.IGNORECASE)]
    assert not found, f"'{word}': write '{PLAIN[word]}'"


def test_a_summary_says_what_something_is_or_does():
    """An imperative or a noun phrase, and one line."""
    wrong = []
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (summary := ast.get_docstring(node)):
                first, _, rest = summary.partition("\n")
                wraps = bool(rest.strip()) and not rest.startswith("\n")
                if wraps or first.startswith(("What ", "How ", "Whatever ")):
                    wrong.append(f"{file.name}: {first}")
    assert not wrong
