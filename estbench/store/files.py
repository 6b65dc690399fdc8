"""Files that are whole or absent."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from estbench.errors import EstbenchError
from estbench.experiment import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    write_text(path, json.dumps({"schema": SCHEMA_VERSION, **data}, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "restore it") -> dict[str, Any]:
    """Read a JSON document; a newer schema, or a broken file, is an error that says what to do: ``remedy``."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = int(data["schema"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise EstbenchError(f"cannot read '{path}': {type(error).__name__}: {error}; {remedy}") from None
    if version > SCHEMA_VERSION:
        raise EstbenchError(
            f"'{path}' has schema {version}, and this estbench reads up to {SCHEMA_VERSION}; upgrade estbench"
        )
    return dict(data)
