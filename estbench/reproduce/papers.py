"""A paper as a page names it: its title, its year and where it can be read."""

from __future__ import annotations

import re
from typing import NamedTuple

from estbench.references import BIBTEX

FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)
# Where a paper can be read, by the field of its entry that says so; the first that an entry has is taken.
PLACES = {"doi": "https://doi.org/{}", "eprint": "https://arxiv.org/abs/{}", "url": "{}"}


class Paper(NamedTuple):
    """The title and the year of a paper, and an address; an empty text if the entry has none."""

    title: str
    year: str
    address: str


def find_paper(key: str) -> Paper:
    """Return the paper of a BibTeX key; its title is the key if the entry has none in plain letters.

    >>> find_paper("dong2020").address
    'https://arxiv.org/abs/2006.10680'
    """
    fields = {name.lower(): text.replace("{", "").replace("}", "") for name, text in FIELD.findall(BIBTEX.get(key, ""))}
    title = fields.get("title", key)
    places = (place.format(fields[name]) for name, place in PLACES.items() if name in fields)
    return Paper(key if "\\" in title else title, fields.get("year", ""), next(places, ""))
