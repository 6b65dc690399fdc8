"""A look at a checkpoint before it is loaded: it is a zip archive, and an archive may hold more than it weighs."""

from __future__ import annotations

import os
import zipfile
from typing import IO


def inflates(file: IO[bytes]) -> bool:
    """Whether an archive's entries take more room than the file itself; a checkpoint's are not compressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            return sum(entry.file_size for entry in archive.infolist()) > os.fstat(file.fileno()).st_size
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False  # no archive at all: torch says what it is
    finally:
        file.seek(0)
