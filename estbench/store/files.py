"""JSON documents and text files, written completely or not at all."""

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

BYTES_PER_PART = 72  # memory of a part of a JSON document as a Python object, at least


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file, completely or not at all."""
    guarded(path).write_text(text)


def write_files(folder: GuardedPath, files: dict[str, bytes]) -> None:
    """Write files by their names below a folder, each completely or not at all.

    They are those of reports, which can be made again, so nothing waits until they are on disk.
    """
    for subfolder in {name.rpartition("/")[0] for name in files}:
        (folder / subfolder if subfolder else folder).mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content, durable=False)


def encoded(text: str) -> bytes:
    """Return text as the bytes of a file; a lone surrogate, which UTF-8 cannot encode, becomes its escape."""
    return text.encode("utf-8", "backslashreplace")


def write_json(path: str | PathLike[str], data: dict[str, Any]) -> None:
    """Write a JSON document with its schema version, completely or not at all."""
    write_text(path, json.dumps({**schema_header(), **data}, indent=2, allow_nan=False) + "\n")


def fit_to_limits(data: dict[str, Any], limits: tuple[Limit, Limit], *, uncut: str) -> dict[str, Any]:
    """Return a document that ``read_json`` accepts: if it is over its limits, long texts and lists are cut.

    The value of the key ``uncut`` is kept as it is.
    """
    longest = limits[0].value
    while longest:
        try:
            _check_size(json.dumps({**schema_header(), **data}, indent=2).encode(), "", *limits)
        except TooLargeError:
            longest //= 2
            data = {name: value if name == uncut else _cut(value, longest) for name, value in data.items()}
        else:
            break
    return data


def _cut(value: Any, longest: int) -> Any:
    """Return plain data with at most ``longest`` characters in a text, and entries in a list or dictionary."""
    if isinstance(value, str):
        return shortened(value, max(longest, 3))
    if isinstance(value, list | tuple):
        return [_cut(each, longest) for each in value[:longest]]
    if isinstance(value, dict):
        return {str(name)[:longest]: _cut(each, longest) for name, each in [*value.items()][:longest]}
    return value


def schema_header() -> dict[str, Any]:
    """Return the first entries of every document: its schema, and the version of estbench that wrote it."""
    return {"schema": SCHEMA_VERSION, "estbench": __version__}


def read_json(
    path: str | PathLike[str],
    remedy: str = "restore it",
    limits: tuple[Limit, Limit] = (JSON_BYTES, JSON_PARTS),
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Read a JSON document.

    Raises ``EstbenchError`` if the document has another schema, is damaged (``DamagedError``), or is over the
    ``limits`` of its bytes and parts. ``remedy`` is the end of the message: what the user can do.
    """
    try:
        data = read_any_json(path, limits, budget)
    except (LinkError, TooLargeError, ReadError):
        raise
    except EstbenchError as error:
        raise DamagedError(f"cannot read '{path}': {error}; {remedy}") from None
    except (OSError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DamagedError(f"cannot read '{path}': {type(error).__name__}: {error}; {remedy}") from None
    check_schema(data, path, remedy)
    return dict(data)


def check_schema(data: Any, what: object, remedy: str) -> None:
    """Raise ``EstbenchError`` if a document has another schema than this version of estbench reads."""
    try:
        version = int(data["schema"])
    except KeyError:
        raise DamagedError(f"cannot read '{what}': it has no schema, so estbench did not write it; {remedy}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedError(f"cannot read '{what}': {type(error).__name__}: {error}; {remedy}") from None
    if version == SCHEMA_VERSION:
        return
    if version < 1:
        raise DamagedError(f"cannot read '{what}': there is no schema {version}; {remedy}")
    if version < SCHEMA_VERSION:
        raise EstbenchError(
            f"'{what}' has schema {version}, which an earlier estbench wrote; this one reads schema {SCHEMA_VERSION}: "
            "delete it, or run again into another folder (--out)"
        )
    raise EstbenchError(
        f"'{what}' has schema {version}, and this estbench reads up to {SCHEMA_VERSION}; "
        f"upgrade estbench to {data.get('estbench', f'a version that reads schema {version}')}"
    )


def parse_json(content: bytes, what: str, budget: Budget | None = None) -> dict[str, Any]:
    """Return a JSON document of a larger file; raise ``EstbenchError`` as ``read_json`` does. ``what`` names it."""
    try:
        count = _check_size(content, what, JSON_BYTES, JSON_PARTS)
        if budget is not None:
            budget.spend(len(content) + BYTES_PER_PART * count, f"{what} and those before")
        text = content.decode()
        data = dict(json.loads(text).items())
    except EstbenchError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DamagedError(f"cannot read {what}: {type(error).__name__}: {error}; get it again") from None
    return without_surrogates(data) if "\\ud" in text.lower() else data


def read_any_json(
    path: str | PathLike[str], limits: tuple[Limit, Limit] = (JSON_BYTES, JSON_PARTS), budget: Budget | None = None
) -> Any:
    """Return what a JSON document without a schema holds; errors of its syntax are those of ``json.loads``."""
    text = _bounded(path, *limits, budget)
    data = json.loads(text)
    return without_surrogates(data) if "\\ud" in text.lower() else data  # no file and no table can hold them


def _bounded(path: str | PathLike[str], size: Limit, parts: Limit, budget: Budget | None) -> str:
    """Return the text of a JSON document; raise ``TooLargeError`` if it is too large on disk or in memory."""
    content = guarded(path).read_bytes(size)
    count = _check_size(content, path, size, parts)
    if budget is not None:
        budget.spend(len(content) + BYTES_PER_PART * count, f"{path} and those before")
    return content.decode()


def _check_size(content: bytes, path: str | PathLike[str], size: Limit, parts: Limit) -> int:
    """Return the number of parts of a document; raise ``TooLargeError`` if it is too large on disk or in memory."""
    # In a Python string, one character beyond ASCII can make each of them take four bytes.
    size.check(len(content) if content.isascii() else 4 * len(content), path)
    count = sum(map(content.count, (b",", b"[", b"{")))
    parts.check(count, path)
    return count
