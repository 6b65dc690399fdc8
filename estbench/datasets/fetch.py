"""Downloads: the sources of a file are tried in turn, until one gives the content with the known digest.

These are failed sources: a web page instead of the file, an incomplete file, and a server that does not answer, is too
slow, or sends too much. A download is written to a temporary file in the same folder, which is renamed when it is
complete and checked. So several processes may download the same file at once.

Pooch is not used: its download has no limit of bytes or time, and its check would hang on a pipe in the data folder.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3

from estbench.datasets.files import DATA_DIR, DataFile, data_folder, gunzipped
from estbench.errors import EstbenchError
from estbench.limits import DATA_BYTES, DOWNLOAD_SECONDS

# Longest time in seconds to connect, and between two packets.
TIMEOUT = (10.0, 30.0)
# After the grace time, in seconds, the mean speed must be at least this, in bytes per second.
GRACE_SECONDS, LOWEST_SPEED = 30.0, 1000
# Bytes that are read at a time; and bytes beyond the size of the file, because a server may pack it with gzip.
PIECE, SPARE = 2**18, 2**16

Progress = Callable[[str, int, int], None]  # the file's name, received bytes, total bytes (0 if unknown)


def fetch(file: DataFile, *, offline: bool = False, progress: Progress = lambda _name, _done, _all: None) -> bool:
    """Download a file if it is missing or damaged; return whether it was downloaded.

    Raises ``EstbenchError`` if it cannot be downloaded; the message has the reason for each source, the folder, and the
    environment variable that chooses the folder.
    """
    if file.state() == "verified":
        return False
    where = f"the folder is '{data_folder()}'; {DATA_DIR} chooses another"
    if offline:
        raise EstbenchError(f"{file.name} is {file.state()}; not downloading because of --offline; {where}")
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
                temporary.chmod(0o644)  # readable for everybody who shares the folder
                temporary.replace(file.path)
                return True
            tried.append(f"{url}: {complaint}")
    finally:
        temporary.unlink(missing_ok=True)
    raise EstbenchError(f"cannot fetch {file.name}. Tried {'; '.join(tried)}. Put it there by hand if need be: {where}")


def _download(url: str, file: DataFile, target: Path, progress: Progress) -> str:
    """Download from one source into ``target``; return why that failed, or "" if the content is right."""
    most = DATA_BYTES.value if file.size is None else file.size + file.size // 100 + SPARE
    try:
        with _request(url) as response, target.open("wb") as out:
            response.raise_for_status()
            complaint = _receive(response, out, file, most, progress)
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError) as error:
        return _describe_error(error)
    if complaint:
        return complaint
    content = target.read_bytes()
    if file.accepts(content):
        return ""
    unpacked = _undo_gzip(content, most)
    if unpacked is not None and file.accepts(unpacked):
        target.write_bytes(unpacked)
        return ""
    if content.lstrip()[:1] == b"<":
        return "a web page instead of the file"
    return f"{len(content):,} bytes whose digest is not {file.digest}"


def _request(url: str) -> requests.Response:
    """Return a server's response before its body is read; raise ``Timeout`` if the headers take too long."""
    results: list[requests.Response | Exception] = []

    def request() -> None:
        try:
            # Without an encoding, because a server that calls a .gz file an encoding would have it unpacked.
            results.append(requests.get(url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}))
        except Exception as error:  # noqa: BLE001  (raised below, in the calling thread)
            results.append(error)

    requesting = threading.Thread(target=request, daemon=True)  # because no timeout of requests covers all headers
    requesting.start()
    requesting.join(sum(TIMEOUT) + GRACE_SECONDS)
    if not results:
        raise requests.Timeout
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def _receive(response: requests.Response, out: BinaryIO, file: DataFile, most: int, progress: Progress) -> str:
    """Write the body to ``out``; return why it was stopped, or "" if it is complete."""
    announced = int(response.headers.get("Content-Length") or 0)
    if announced > most:
        return _describe_excess(file, most)
    start, done = time.monotonic(), 0
    while piece := response.raw.read1(PIECE, decode_content=False):
        done += len(piece)
        if done > most:
            return _describe_excess(file, most)
        out.write(piece)
        progress(file.name, done, announced)
        seconds = time.monotonic() - start
        if seconds > GRACE_SECONDS and done < LOWEST_SPEED * seconds:
            return f"too slow: {done:,} bytes in {seconds:.0f} s"
        if seconds > DOWNLOAD_SECONDS.value:
            return f"too slow: not complete after {seconds:.0f} s; set ESTBENCH_MAX_DOWNLOAD_SECONDS to more"
    return "cut short" if done < announced else ""


def _describe_excess(file: DataFile, most: int) -> str:
    if file.size is not None:
        return f"more than the {file.size:,} bytes that the file has"
    return f"more than {most:,} bytes; if you trust it, set ESTBENCH_MAX_DATA_BYTES to more"


def _undo_gzip(content: bytes, most: int) -> bytes | None:
    """Undo gzip that the server applied although it was not asked to; None if there is none, or if it is too large."""
    try:
        unpacked = gunzipped(content, most)
    except (OSError, EOFError, zlib.error):
        return None
    return unpacked if len(unpacked) <= most else None


def _describe_error(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, requests.Timeout):
        return "too slow"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "too slow"
    if isinstance(error, urllib3.exceptions.ProtocolError | http.client.HTTPException):
        return "cut short"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__
