"""Files that are whole or absent."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from estbench import __version__
from estbench.errors import EstbenchError
from estbench.experiment import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DamagedError(EstbenchError):
    """A file that was cut short, or that is not what it should be; its cell can be computed again."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; on success it is flushed to disk and renamed into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, all or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON document with its schema version, all or nothing."""
    write_text(path, json.dumps({**stamp(), **data}, indent=2, allow_nan=False) + "\n")


def stamp() -> dict[str, Any]:
    """What every document begins with: its schema, and the estbench that wrote it and can read it."""
    return {"schema": SCHEMA_VERSION, "estbench": __version__}


def read_json(path: Path, remedy: str = "restore it") -> dict[str, Any]:
    """Read a JSON document; another schema, or a broken file, is an error that says what to do: ``remedy``."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = int(data["schema"])
        if version == SCHEMA_VERSION:
            return dict(data)
    except EstbenchError as error:
        raise DamagedError(f"cannot read '{path}': {error}; {remedy}") from None
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


def no_link(path: Path) -> Path:
    """The path; refuse a symbolic link: what is written through it would land outside the results folder."""
    if path.is_symlink():
        raise EstbenchError(f"'{path}' is a symbolic link, and results folders have none; remove it")
    return path
