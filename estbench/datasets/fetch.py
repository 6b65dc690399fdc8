"""Downloads: every source in turn, until one gives the file whose digest is known.

A page of HTML in place of the file, a file that was cut short, a server that stops sending, sends without end or does
not answer are all the same: a failed source. A download goes to a temporary file beside its place and is renamed when
it is whole and checked, so several processes may fetch the same file at once.
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

# Seconds for a connection, and for the next bytes to come.
TIMEOUT = (10.0, 30.0)
# After so many seconds a source must have sent so many bytes in each.
PATIENCE, SLOWEST = 30.0, 1000
# Bytes taken at a time, and how many more than the file has: a server may pack it for the way.
PIECE, SPARE = 2**18, 2**16

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
    most = DATA_BYTES.value if file.size is None else file.size + file.size // 100 + SPARE
    try:
        with _answer(url) as response, target.open("wb") as out:
            response.raise_for_status()
            complaint = _receive(response, out, file, most, progress)
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError) as error:
        return _reason(error)
    if complaint:
        return complaint
    content = target.read_bytes()
    if file.accepts(content):
        return ""
    unpacked = _unpacked(content, most)
    if unpacked is not None and file.accepts(unpacked):
        target.write_bytes(unpacked)
        return ""
    if content.lstrip()[:1] == b"<":
        return "a web page in place of the file"
    return f"{len(content):,} bytes whose digest is not {file.digest}"


def _answer(url: str) -> requests.Response:
    """What a server answers, its body still to come; a head that drips in is given up."""
    answers: list[requests.Response | Exception] = []

    def ask() -> None:
        try:
            # As the bytes are: a server that calls a .gz file an encoding would have it unpacked on the way.
            answers.append(requests.get(url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}))
        except Exception as error:  # noqa: BLE001  (raised below, in the thread that asked)
            answers.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(sum(TIMEOUT) + PATIENCE)
    if not answers:
        raise requests.Timeout
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


def _receive(response: requests.Response, out: BinaryIO, file: DataFile, most: int, progress: Progress) -> str:
    """Write the body as it comes; why it was given up, or nothing."""
    announced = int(response.headers.get("Content-Length") or 0)
    if announced > most:
        return _too_much(file, most)
    began, done = time.monotonic(), 0
    while piece := response.raw.read1(PIECE, decode_content=False):
        done += len(piece)
        if done > most:
            return _too_much(file, most)
        out.write(piece)
        progress(file.name, done, announced)
        seconds = time.monotonic() - began
        if seconds > PATIENCE and done < SLOWEST * seconds:
            return f"too slow: {done:,} bytes in {seconds:.0f} s"
        if seconds > DOWNLOAD_SECONDS.value:
            return f"too slow: not done in {seconds:.0f} s; ESTBENCH_MAX_DOWNLOAD_SECONDS allows more"
    return "cut short" if done < announced else ""


def _too_much(file: DataFile, most: int) -> str:
    if file.size is not None:
        return f"more than the {file.size:,} bytes that the file has"
    return f"more than {most:,} bytes; if you trust it, set ESTBENCH_MAX_DATA_BYTES to more"


def _unpacked(content: bytes, most: int) -> bytes | None:
    """What a server has packed for the way, unasked; None if it is not packed, or too much."""
    try:
        unpacked = gunzipped(content, most)
    except (OSError, EOFError, zlib.error):
        return None
    return unpacked if len(unpacked) <= most else None


def _reason(error: Exception) -> str:
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
