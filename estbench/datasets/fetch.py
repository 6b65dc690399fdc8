"""Downloads: every source in turn, until one gives the file whose digest is known.

A page of HTML in place of the file, a file that was cut short, a server that stops sending and one that does not answer
are all the same: a failed source. A download goes to a temporary file beside its place and is renamed when it is whole
and checked, so several processes may fetch the same file at once.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooch
import requests

from estbench.datasets.files import DATA_DIR, DataFile, data_folder
from estbench.errors import EstbenchError

# Seconds for a connection, and for the next bytes to come.
TIMEOUT = (10.0, 30.0)

Progress = Callable[[str, int, int], None]  # the file's name, bytes so far, bytes in all (0: unknown)


def fetch(file: DataFile, *, offline: bool = False, progress: Progress = lambda _name, _done, _all: None) -> bool:
    """Make sure that a file is there and right; return whether it had to be downloaded.

    Raises ``EstbenchError`` that names the file, the sources tried with what was wrong with each, the folder and the
    variable that chooses it.
    """
    if file.state() == "verified":
        return False
    where = f"the folder is '{data_folder()}'; {DATA_DIR} chooses another"
    if offline:
        raise EstbenchError(f"{file.name} is {file.state()}, and --offline forbids to download it; {where}")
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.path.name}.", suffix=".tmp", dir=file.path.parent)
    except OSError as error:
        raise EstbenchError(f"cannot write {file.name}: {error.strerror}; {where}") from None
    os.close(handle)
    temporary = Path(name)
    tried = []
    try:
        for url in file.urls:
            complaint = _download(url, file, temporary, progress)
            if not complaint:
                temporary.chmod(0o644)  # readable for all who share the folder
                temporary.replace(file.path)
                return True
            tried.append(f"{url}: {complaint}")
    finally:
        temporary.unlink(missing_ok=True)
    raise EstbenchError(f"cannot fetch {file.name}. Tried {'; '.join(tried)}. Put it there by hand if need be: {where}")


def _download(url: str, file: DataFile, target: Path, progress: Progress) -> str:
    """Download from one source; what was wrong, or nothing."""
    downloader = pooch.HTTPDownloader(
        progressbar=_Meter(file.name, progress),
        chunk_size=1 << 18,
        timeout=TIMEOUT,
        headers={"Accept-Encoding": "identity"},
        hooks={"response": _as_sent},
    )
    try:
        downloader(url, str(target), None)
        content = target.read_bytes()
    except (requests.RequestException, ValueError) as error:
        return _reason(error)
    if file.accepts(content):
        return ""
    unpacked = _unpacked(content)
    if unpacked is not None and file.accepts(unpacked):
        target.write_bytes(unpacked)
        return ""
    if content.lstrip()[:1] == b"<":
        return "a web page in place of the file"
    return f"{len(content):,} bytes whose digest is not {file.digest}"


def _as_sent(response: requests.Response, *_: Any, **__: Any) -> None:
    """Keep the bytes as they are: a server that calls a .gz file an encoding would have it unpacked on the way."""
    response.raw.headers.pop("Content-Encoding", None)


def _unpacked(content: bytes) -> bytes | None:
    """What a server has packed for the way, unasked."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, requests.Timeout):
        return "too slow"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "cut short"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__


class _Meter:
    """What pooch tells its progress to; it counts in whole chunks, and tells the total first."""

    def __init__(self, name: str, progress: Progress) -> None:
        self.name, self.progress = name, progress
        self.total = 0
        self.done = 0

    def update(self, count: int) -> None:
        self.done = min(self.done + count, self.total or self.done + count)
        self.progress(self.name, self.done, self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing is open."""
