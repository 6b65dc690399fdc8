"""The BibTeX of the papers that estimators are from: the entries of ``references.bib``, and those of plugins."""

from __future__ import annotations

import re
from importlib import resources

ENTRY = re.compile(r"@[A-Za-z]+\s*\{\s*([^\s,{}\"#%'()=~\\]+)\s*,")
LONGEST_ENTRY = 4000


def read_entries(text: str) -> dict[str, str]:
    r"""Return the entries of a BibTeX text by their keys, each as it is written.

    An entry ends with the brace that closes its first one. Text between entries is a comment, as in BibTeX. Raises
    ``ValueError`` if an entry is not closed, or if two have the same key.

    >>> read_entries("A paper: @misc{knuth1984, title = {The {\\TeX}book}, year = 1984} and no more")
    {'knuth1984': '@misc{knuth1984, title = {The {\\TeX}book}, year = 1984}'}
    """
    entries: dict[str, str] = {}
    start = ENTRY.search(text)
    while start is not None:
        key, end = start[1], _find_end(text, start.start())
        if key in entries:
            raise ValueError(f"two entries have the key '{key}'")
        entries[key] = text[start.start() : end]
        start = ENTRY.search(text, end)
    return entries


def read_entry(text: str) -> tuple[str, str]:
    """Return the key and the text of a single entry; raise ``ValueError`` if ``text`` is anything else."""
    text = text.strip()
    if len(text) > LONGEST_ENTRY:
        raise ValueError(f"an entry has at most {LONGEST_ENTRY:,} characters, not {len(text):,}")
    entries = list(read_entries(text).items())
    if len(entries) != 1 or entries[0][1] != text:
        raise ValueError("it is not one BibTeX entry: @article{key, author = {...}, title = {...}, year = {...}}")
    return entries[0]


def _find_end(text: str, start: int) -> int:
    """Return the place after the brace that closes the first one; BibTeX counts braces after a backslash, too."""
    depth = 0
    for place in range(text.index("{", start), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise ValueError(f"an entry is not closed: {text[start : start + 60]}")


BIBTEX = read_entries(resources.files("estbench").joinpath("references.bib").read_text(encoding="utf-8"))
