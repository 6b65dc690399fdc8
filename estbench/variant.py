"""Variants: a name with options, in the form ``reinforce[baseline=ema,num_samples=4]``."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from estbench.errors import EstbenchError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
BARE_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/~-]*")
NESTED = re.compile(rf"{NAME.pattern}\[.*\]")
QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'')
WRITTEN = re.compile(r"(?P<name>[^\[\]]*)(\[(?P<options>.*)\])?", re.DOTALL)


@dataclass(frozen=True)
class Variant:
    """A registered name and the options that were written with it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read ``name`` or ``name[key=value,...]``; values are TOML scalars or arrays, or bare words.

        >>> Variant.parse("rloo[num_samples=4]")
        Variant(name='rloo', options={'num_samples': 4})
        """
        match = WRITTEN.fullmatch(text.strip())
        if match is None or not NAME.fullmatch(match["name"]):
            raise EstbenchError(f"cannot read '{text}'; {_remedy(text)}")
        options: dict[str, Any] = {}
        for item in _split(match["options"] or ""):
            key, equals, value = (part.strip() for part in item.partition("="))
            if not equals or not key or not value:
                raise EstbenchError(f"cannot read '{item}' in '{text}'; write option=value")
            if key in options:
                raise EstbenchError(f"option '{key}' is given twice in '{text}'")
            options[key] = parse_value(value)
        return cls(match["name"], options)

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}[{','.join(f'{key}={_written(value)}' for key, value in self.options.items())}]"


def parse_value(text: str) -> Any:
    """Read one option's value: a TOML scalar or array; a bare word is a string."""
    if _is_bare(text):
        return text
    try:
        # In one line, because TOML would read a second line as another key, which would be ignored.
        return tomllib.loads(f"value = {text.replace(chr(10), chr(0))}")["value"]
    except (ValueError, RecursionError):
        raise EstbenchError(f"cannot read the value '{text}'; write a number, a word or [a,b]") from None


def _remedy(text: str) -> str:
    """Return a suggestion for a text that is no variant."""
    parts = _split(text)
    if len(parts) > 1 and all(re.match(r"[\w-]+\s*(\[|$)", part.strip()) for part in parts):
        return "name one at a time, as in -e reparam -e rloo"
    name = text.partition("[")[0]
    if NAME.fullmatch(name.strip().lower()) and name != name.lower():
        return f"names are in lower case: {name.strip().lower()}"
    return "write name or name[option=value,...], for example rloo[num_samples=4]"


def _split(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes."""
    parts, depth, start = [], 0, 0
    unquoted = QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    for position, character in enumerate(unquoted):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _is_bare(text: str) -> bool:
    """Whether a text is a string without quotes: a word, or a variant such as ``conv[channels=[8,16]]``."""
    if BARE_WORD.fullmatch(text):
        return text not in {"true", "false", "inf", "nan"}
    return bool(NESTED.fullmatch(text)) and _is_variant(text)


def _is_variant(text: str) -> bool:
    try:
        return bool(Variant.parse(text).options)
    except EstbenchError:
        return False


def _written(value: Any) -> str:
    if isinstance(value, str):
        # TOML, unlike JSON, takes no raw DEL.
        return value if _is_bare(value) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(json.dumps(item) if isinstance(item, str) else _written(item) for item in value)}]"
    return str(value)
