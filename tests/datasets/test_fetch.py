"""Downloads, from a server on this machine that does what servers do; no test leaves the machine."""

from __future__ import annotations

import gzip
import http.server
import os
import socket
import threading
import time

import numpy as np
import pytest

from estbench import EstbenchError
from estbench.datasets import fetch as module
from estbench.datasets.fetch import fetch
from estbench.datasets.files import DATA_DIR, DataFile, known_files

CONTENT = gzip.compress(np.random.default_rng(0).bytes(300_000), mtime=0)
BOMB = gzip.compress(bytes(2**25), 1)


class Handler(http.server.BaseHTTPRequestHandler):
    """What is asked for by the path's first part."""

    def do_GET(self):
        self.server.asked.append(self.path)
        what = self.path.split("/")[1]
        body, length, encoding = CONTENT, None, None
        match what:
            case "missing":
                self.send_error(404)
                return
            case "wrong":
                body = CONTENT[:-1] + b"?"
            case "page":
                body = b"<!DOCTYPE html><title>gone</title>"
            case "short":
                body, length = CONTENT[:1000], len(CONTENT)
            case "packed":  # for the way, unasked
                body, encoding = gzip.compress(CONTENT), "gzip"
            case "mislabelled":  # the .gz file itself is called an encoding
                encoding = "gzip"
            case "bomb":  # small on the way, large when unpacked
                body = BOMB
            case "endless" | "drip" | "head":
                self.endless(what)
                return
            case "slow":
                self.server.let_go.wait(10)
                return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def endless(self, what):
        """Send on until nobody listens, or the test is over."""
        if what == "head":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        else:
            self.send_response(200)
            self.end_headers()
        for _ in range(10_000):
            try:
                self.wfile.write(bytes(2**16) if what == "endless" else b"x")
                self.wfile.flush()
            except OSError:
                return
            if what != "endless" and self.server.let_go.wait(0.05):
                return

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.asked, running.let_go = [], threading.Event()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.let_go.set()
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def file(server, planted, monkeypatch):
    """A file that is not there, with sources of the given kinds."""
    monkeypatch.setattr(module, "TIMEOUT", (1.0, 0.3))
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.4)
    monkeypatch.setenv("ESTBENCH_MAX_DATA_BYTES", "10000000")
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)

    def of(*kinds):
        urls = [f"http://127.0.0.1:{server.server_port}/{kind}/a.gz" for kind in kinds]
        return planted("mnist/a.gz", CONTENT, urls, there=False)

    return of


def left(file):
    """What is in the file's folder."""
    return sorted(path.name for path in file.path.parent.iterdir())


def test_a_good_source(server, file):
    wanted, told = file("good"), []
    assert fetch(wanted, progress=lambda *what: told.append(what))
    assert wanted.path.read_bytes() == CONTENT
    assert wanted.path.stat().st_mode & 0o777 == 0o644
    assert left(wanted) == ["a.gz"]
    assert told[-1] == ("mnist/a.gz", len(CONTENT), len(CONTENT))
    assert not fetch(wanted)
    assert server.asked == ["/good/a.gz"]


BAD = {
    "missing": "HTTP 404",
    "wrong": "bytes whose digest is not sha256:",
    "page": "a web page",
    "short": "cut short",
    "slow": "too slow",
    "bomb": "bytes whose digest is not sha256:",
    "endless": "more than 10,000,000 bytes; if you trust it, set ESTBENCH_MAX_DATA_BYTES",
    "drip": "too slow: ",
    "head": "too slow",
}


# These wait, and they are among those of the next test but one.
WAIT = {"slow", "drip", "head"}


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [pytest.param(*each, id=each[0], marks=[pytest.mark.slow] * (each[0] in WAIT)) for each in BAD.items()],
)
def test_a_bad_source_is_passed_over_and_one_alone_is_named(server, file, kind, complaint):
    wanted = file(kind)
    with pytest.raises(EstbenchError) as caught:
        fetch(wanted)
    message = str(caught.value)
    assert f"cannot fetch mnist/a.gz. Tried {wanted.urls[0]}: " in message
    assert complaint in message
    assert f"the folder is '{wanted.path.parents[1]}'; {DATA_DIR} chooses another" in message
    assert left(wanted) == []
    assert fetch(file(kind, "good"))
    assert wanted.path.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["packed", "mislabelled"])
def test_an_encoding_does_no_harm(file, kind):
    wanted = file(kind)
    assert fetch(wanted)
    assert wanted.path.read_bytes() == CONTENT


def test_every_source_that_failed_is_named(file):
    wanted = file(*BAD)
    with pytest.raises(EstbenchError) as caught:
        fetch(wanted)
    assert all(url in str(caught.value) for url in wanted.urls)
    assert all(complaint in str(caught.value) for complaint in BAD.values())


def test_no_network(planted, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    wanted = planted("mnist/a.gz", CONTENT, [f"http://127.0.0.1:{port}/a.gz"], there=False)
    with pytest.raises(EstbenchError, match=r"a\.gz: no connection"):
        fetch(wanted)


def test_what_is_damaged_is_fetched_again(file):
    wanted = file("good")
    wanted.path.parent.mkdir(parents=True)
    wanted.path.write_bytes(CONTENT[:-4])
    assert wanted.state() == "damaged"
    assert fetch(wanted)
    assert wanted.state() == "verified"


def test_a_file_that_cannot_be_fetched_leaves_the_damaged_one(file):
    wanted = file("missing")
    wanted.path.parent.mkdir(parents=True)
    wanted.path.write_bytes(b"mine")
    with pytest.raises(EstbenchError):
        fetch(wanted)
    assert wanted.path.read_bytes() == b"mine"


def test_offline(server, file):
    wanted = file("good")
    with pytest.raises(EstbenchError, match=r"mnist/a\.gz is missing; .*--offline; the folder is"):
        fetch(wanted, offline=True)
    assert server.asked == []
    fetch(wanted)
    assert not fetch(wanted, offline=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_folder_that_may_only_be_read(file):
    wanted = file("good")
    fetch(wanted)
    wanted.path.parent.chmod(0o500)
    try:
        assert not fetch(wanted)
        wanted.path.parent.chmod(0o700)
        wanted.path.unlink()
        wanted.path.parent.chmod(0o500)
        with pytest.raises(EstbenchError, match=rf"cannot write mnist/a\.gz: Permission denied; .*{DATA_DIR}"):
            fetch(wanted)
    finally:
        wanted.path.parent.chmod(0o700)


def test_a_cache_that_is_there_is_never_written(file):
    wanted = file("good")
    fetch(wanted)
    before = wanted.path.stat().st_mtime_ns, left(wanted)
    assert not fetch(wanted)
    assert (wanted.path.stat().st_mtime_ns, left(wanted)) == before


def test_several_fetch_the_same_file(file):
    wanted = file("good")
    others = [threading.Thread(target=fetch, args=(wanted,)) for _ in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert wanted.state() == "verified"
    assert left(wanted) == ["a.gz"]


def test_every_file_has_a_digest_and_two_sources():
    for name, file in known_files().items():
        kind, digest = file.digest.split(":")
        assert len(digest) == {"sha256": 64, "git": 40, "md5": 32}[kind]
        assert len(set(file.urls)) >= 2
        assert not name.startswith(("/", "."))
        assert ".." not in name


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "md5:5d41402abc4b2a76b9719d911017c592",
        "git:b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",  # printf hello | git hash-object --stdin
    ],
)
def test_digests(digest):
    file = DataFile("a", digest, ())
    assert file.accepts(b"hello")
    assert not file.accepts(b"hello ")


def test_a_stalled_source_costs_no_more_than_its_timeout(file):
    started = time.monotonic()
    fetch(file("slow", "good"))
    assert time.monotonic() - started < 8


def test_a_source_that_sends_more_than_the_file_has_is_left(file):
    wanted = file("endless")._replace(size=len(CONTENT))
    with pytest.raises(EstbenchError, match=f"more than the {len(CONTENT):,} bytes that the file has"):
        fetch(wanted)
    assert left(wanted) == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "too large"])
def test_what_is_no_file_in_the_data_folder_is_one_line(planted, monkeypatch, kind):
    wanted = planted("mnist/a.gz", CONTENT, there=False)
    wanted.path.parent.mkdir(parents=True)
    match kind:
        case "folder":
            wanted.path.mkdir()
        case "pipe":
            os.mkfifo(wanted.path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                monkeypatch.chdir(wanted.path.parent)
                made.bind("a.gz")
        case "device":
            wanted.path.symlink_to("/dev/zero")
        case "too large":
            monkeypatch.setenv("ESTBENCH_MAX_DATA_BYTES", "1000")
            wanted.path.write_bytes(CONTENT)
    assert wanted.state() == "damaged"
    with pytest.raises(EstbenchError, match=r"a device|zero|a\.gz") as caught:
        wanted.read()
    assert "\n" not in str(caught.value)
