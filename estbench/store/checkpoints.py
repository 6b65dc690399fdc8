"""A look at a checkpoint before it is loaded: it is a zip archive, and an archive may hold more than it weighs."""

from __future__ import annotations

import zipfile
from pathlib import Path


def inflates(path: Path) -> bool:
    """Whether an archive's entries take more room than the file itself; a checkpoint's are not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False  # no archive at all: torch says what it is
