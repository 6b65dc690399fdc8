"""Strings of others, made safe to show: what steers a terminal, or shows nothing at all, becomes an escape."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# Letters and marks that Unicode counts as printable, and that leave no ink.
INKLESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str, *, keep: str = "") -> str:
    r"""A string with nothing hidden: controls, escapes, marks of direction, lone surrogates as ``\x1b`` or ``\u202e``.

    Characters in ``keep`` stay as they are. Doing it twice changes nothing more.

    >>> visible("\x1b[2Jcleared\u202e")
    '\\x1b[2Jcleared\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign if sign in keep or _has_ink(sign) else escaped(sign) for sign in text)


def escaped(sign: str) -> str:
    """One character as Python writes it."""
    return ascii(sign)[1:-1]


def without_surrogates(data: Any) -> Any:
    """Plain data whose strings can all be encoded: a lone surrogate becomes its escape."""
    if isinstance(data, str):
        return SURROGATE.sub(lambda found: escaped(found[0]), data)
    if isinstance(data, dict):
        return {without_surrogates(key): without_surrogates(value) for key, value in data.items()}
    if isinstance(data, list):
        return [without_surrogates(each) for each in data]
    return data


def _has_ink(sign: str) -> bool:
    """Whether a character is seen, or is a space of some width."""
    return (sign.isprintable() or unicodedata.category(sign) == "Zs") and not INKLESS.match(sign)
