"""Strings from strangers, made safe to show: control characters and invisible characters become escapes."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# Letters and marks that are printable for Unicode, and invisible.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str, *, keep: str = "") -> str:
    r"""Return a string with control characters, marks of direction and lone surrogates as ``\x1b`` or ``\u202e``.

    Characters in ``keep`` stay as they are. A second call changes nothing.

    >>> visible("\x1b[2Jcleared\u202e")
    '\\x1b[2Jcleared\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each in keep or _is_visible(each) else escaped(each) for each in text)


def escaped(character: str) -> str:
    """Return a character as Python's escape."""
    return ascii(character)[1:-1]


def without_surrogates(data: Any) -> Any:
    """Return plain data with lone surrogates, which cannot be encoded, as escapes."""
    if isinstance(data, str):
        return SURROGATE.sub(lambda match: escaped(match[0]), data)
    if isinstance(data, dict):
        return {without_surrogates(key): without_surrogates(value) for key, value in data.items()}
    if isinstance(data, list):
        return [without_surrogates(each) for each in data]
    return data


def _is_visible(character: str) -> bool:
    """Whether a character can be seen, or is a space with a width."""
    return (character.isprintable() or unicodedata.category(character) == "Zs") and not INVISIBLE.match(character)
