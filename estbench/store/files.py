"""JSON documents and text that are whole or absent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from estbench._version import __version__
from estbench.errors import EstbenchError, ReadError
from estbench.experiment import SCHEMA_VERSION
from estbench.guarded import DamagedError, GuardedPath, LinkError, guarded
from estbench.limits import JSON_BYTES, JSON_PARTS, Budget, Limit, TooLargeError
from estbench.options import shortened
from estbench.visible import without_surrogates

if TYPE_CHECKING:
    from os import PathLike

BYTES_OF_A_PART = 72


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file, all or nothing."""
    guarded(path).write_text(text)


def write_files(folder: GuardedPath, files: dict[str, bytes]) -> None:
    """Write files by their names below a folder, each all or nothing."""
    for place in {name.rpartition("/")[0] for name in files}:
        (folder / place if place else folder).mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def encoded(text: str) -> bytes:
    """Text as it is written to files: half of a surrogate pair, which no file can hold, becomes its number."""
    return text.encode("utf-8", "backslashreplace")


def write_json(path: str | PathLike[str], data: dict[str, Any]) -> None:
    """Write a JSON document with its schema version, all or nothing."""
    write_text(path, json.dumps({**stamp(), **data}, indent=2, allow_nan=False) + "\n")


def fitted(data: dict[str, Any], limits: tuple[Limit, Limit], *, whole: str) -> dict[str, Any]:
    """A document that ``read_json`` takes: where it is over its limits, long texts and lists are cut; not ``whole``."""
    longest = limits[0].value
    while longest:
        try:
            _check_size(json.dumps({**stamp(), **data}, indent=2).encode(), "", *limits)
        except TooLargeError:
            longest //= 2
            data = {name: value if name == whole else _cut(value, longest) for name, value in data.items()}
        else:
            break
    return data


def _cut(value: Any, longest: int) -> Any:
    """Plain data with no text of more signs, and no list or dictionary of more entries."""
    if isinstance(value, str):
        return shortened(value, max(longest, 3))
    if isinstance(value, list | tuple):
        return [_cut(each, longest) for each in value[:longest]]
    if isinstance(value, dict):
        return {str(name)[:longest]: _cut(each, longest) for name, each in [*value.items()][:longest]}
    return value


def stamp() -> dict[str, Any]:
    """What every document begins with: its schema, and the estbench that wrote it and can read it."""
    return {"schema": SCHEMA_VERSION, "estbench": __version__}


def read_json(
    path: str | PathLike[str],
    remedy: str = "restore it",
    limits: tuple[Limit, Limit] = (JSON_BYTES, JSON_PARTS),
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Read a JSON document.

    Another schema, a broken file, or one beyond the ``limits`` of its bytes and parts, is an error that says what to
    do: ``remedy``.
    """
    try:
        text = _bounded(path, *limits, budget)
        data = json.loads(text)
        version = int(data["schema"])
        if "\\ud" in text.lower():
            data = without_surrogates(data)  # they fit into no file and no table
        if version == SCHEMA_VERSION:
            return dict(data)
    except (LinkError, TooLargeError, ReadError):
        raise
    except EstbenchError as error:
        raise DamagedError(f"cannot read '{path}': {error}; {remedy}") from None
    except KeyError:
        raise DamagedError(f"cannot read '{path}': it has no schema: estbench did not write it; {remedy}") from None
    except (OSError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DamagedError(f"cannot read '{path}': {type(error).__name__}: {error}; {remedy}") from None
    if version < 1:
        raise DamagedError(f"cannot read '{path}': there is no schema {version}; {remedy}")
    if version < SCHEMA_VERSION:
        raise EstbenchError(
            f"'{path}' has schema {version}, which an earlier estbench wrote, and this one reads {SCHEMA_VERSION}; "
            "delete it, or run again into another folder (--out)"
        )
    raise EstbenchError(
        f"'{path}' has schema {version}, and this estbench reads up to {SCHEMA_VERSION}; "
        f"upgrade estbench to {data.get('estbench', f'a version that reads schema {version}')}"
    )


def _bounded(path: str | PathLike[str], size: Limit, parts: Limit, budget: Budget | None) -> str:
    """The text of a JSON document that is not too large, on disk or in memory."""
    content = guarded(path).read_bytes(size)
    count = _check_size(content, path, size, parts)
    if budget is not None:
        budget.spend(len(content) + BYTES_OF_A_PART * count, f"{path} and those before")
    return content.decode()


def _check_size(content: bytes, path: str | PathLike[str], size: Limit, parts: Limit) -> int:
    """Refuse a document that is too large, on disk or in memory; return how many parts it has."""
    # One wide character makes all of them wide.
    size.check(len(content) if content.isascii() else 4 * len(content), path)
    count = sum(map(content.count, (b",", b"[", b"{")))
    parts.check(count, path)
    return count
