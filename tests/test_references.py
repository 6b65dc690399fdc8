"""The BibTeX entries that ship, and how a BibTeX text is read."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from estbench.references import BIBTEX, read_entries, read_entry


@pytest.mark.parametrize(("key", "entry"), BIBTEX.items(), ids=BIBTEX)
def test_a_shipped_entry_is_whole(key, entry):
    assert re.fullmatch(r"@\w+\{" + key + r",\n  [^@]+\n\}", entry)
    assert entry.count("{") == entry.count("}")
    assert not re.search(r'[^\\]["\'`^~]', entry), "an accent is written with a backslash"
    assert {"author", "title", "year"} <= set(re.findall(r"^  (\w+) = ", entry, re.MULTILINE))
    assert read_entry(entry) == (key, entry)


def test_no_shipped_entry_is_lost():
    text = resources.files("estbench").joinpath("references.bib").read_text(encoding="utf-8")
    assert list(BIBTEX) == re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)
    assert list(BIBTEX) == sorted(BIBTEX)


def test_an_entry_ends_where_its_first_brace_is_closed():
    first = r"@book{a-b:1, title = {On {TeX} and @misc{x, y = {z}}}, author = {J{\"o}rg}}"
    second = "@misc ( not, an entry)\n@MISC { b ,\n year = 1}"
    assert read_entries(f"Comment, a@b.c.\n{first} more\n{second}") == {"a-b:1": first, "b": "@MISC { b ,\n year = 1}"}
    assert read_entries("") == {}


@pytest.mark.parametrize(
    ("text", "key_words"), [("@misc{a, x = {1}", "not closed"), ("@misc{a, x = 1} @book{a, y = 2}", "two entries.*'a'")]
)
def test_a_damaged_text_is_refused(text, key_words):
    with pytest.raises(ValueError, match=key_words):
        read_entries(text)


@pytest.mark.parametrize("text", ["", "text", "@misc{a, x = 1} more", "@misc{a, x = 1} @misc{b, x = 1}"])
def test_a_single_entry_is_nothing_but_one(text):
    with pytest.raises(ValueError, match="not one BibTeX entry"):
        read_entry(text)
