"""A site takes the place of the one before it as a whole, and never that of anything else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.store.files import read_any_json

# Says that a folder is a site of ours. It may be replaced.
MARKER = "site.json"
GENERATOR = "estbench site"


def is_site(folder: GuardedPath) -> bool:
    """Whether `estbench site` wrote this folder."""
    try:
        marker = folder / MARKER
        return marker.is_file() and dict(read_any_json(marker)).get("generator") == GENERATOR
    except (EstbenchError, OSError, TypeError, ValueError, RecursionError):
        return False


@contextlib.contextmanager
def replaced(out: str | Path) -> Iterator[GuardedPath]:
    """Yield a new folder beside ``out``, which takes its place when it is complete; until then that is untouched.

    If a process is killed between the two renames at the end, the old site has the name ``.NAME.before``, and the next
    call puts it back.

    Raises
    ------
    EstbenchError
        If there is something at ``out`` that is neither a site nor an empty folder.
    """
    path = Path(out)
    target = GuardedPath(path.resolve().parent) / path.resolve().name
    new, before = (target.parent / f".{target.name}.{end}" for end in ("partial", "before"))
    if before.exists():
        if target.exists():
            before.remove()
        else:
            before.rename(target)
    if target.exists() and (not target.is_dir() or (target.names() and not is_site(target))):
        raise EstbenchError(f"'{out}' was not written by `{GENERATOR}`; move it away, or name another folder with -o")
    try:
        new.remove()  # of a call that was killed
        new.mkdir()
        yield new
        if not (new / MARKER).exists():
            raise RuntimeError("a site without its marker could never be replaced")
        if target.exists():
            target.rename(before)
        new.rename(target)
        before.remove()
    finally:
        new.remove()


def write_marker(folder: GuardedPath, content: dict[str, object]) -> None:
    """Write the file that tells a site from any other folder, with plain data about what is in it, for programs."""
    text = json.dumps({"generator": GENERATOR, **content}, indent=1, sort_keys=True)
    (folder / MARKER).write_text(text + "\n")
