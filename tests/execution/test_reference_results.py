"""Published results from a server on this machine and from an object store; no test leaves the machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import sys
import threading
import types

import pytest
from records import write_results

from estbench.errors import EstbenchError
from estbench.execution import reference_results
from estbench.execution.reference_results import Published, fetch_results
from estbench.store.pack import pack


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setenv("ESTBENCH_DATA_DIR", str(tmp_path / "cache"))
    return pack([write_results(tmp_path / "r", ["reparam"], 1)], tmp_path / "served" / "good.zip")


@pytest.fixture
def address(archive):
    """The address of a server of the folder with the archive."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

    serve = functools.partial(Quiet, directory=str(archive.path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_is_fetched_once_and_checked(archive, address, tmp_path):
    results = fetch_results(f"{address}/good.zip", tmp_path / "a", sha256=archive.digest.upper())
    assert len(results.records) == 1
    archive.path.unlink()
    assert len(fetch_results(f"{address}/good.zip", tmp_path / "b", sha256=archive.digest).records) == 1


def test_another_digest_is_refused_and_nothing_is_written(archive, address, tmp_path):
    with pytest.raises(EstbenchError, match="whose digest is not"):
        fetch_results(f"{address}/good.zip", tmp_path / "a", sha256="0" * 64)
    assert not (tmp_path / "a").exists()


def test_a_name_comes_from_the_release(archive, address, tmp_path, monkeypatch):
    monkeypatch.setattr(reference_results, "RELEASE", f"{address}/{{name}}.zip")
    known = {"good": Published(archive.digest, archive.size)}
    monkeypatch.setattr(reference_results, "reference_results", lambda: known)
    monkeypatch.chdir(tmp_path)
    results = fetch_results("good")
    assert results.path.as_posix() == "results/comparison"  # the name of its experiment
    monkeypatch.setattr(reference_results, "reference_results", lambda: {"gone": Published("0" * 64, 5)})
    with pytest.raises(EstbenchError, match="cannot fetch"):
        fetch_results("gone")


def test_an_object_store_is_read_by_fsspec(archive, tmp_path, monkeypatch):
    asked = []

    def open_remote(source, mode):
        asked.append((source, mode))
        return archive.path.open(mode)

    monkeypatch.setitem(sys.modules, "fsspec", types.SimpleNamespace(open=open_remote))
    assert len(fetch_results("s3://bucket/x.zip", tmp_path / "a", sha256=archive.digest).records) == 1
    assert asked == [("s3://bucket/x.zip", "rb")]
    fetch_results("s3://bucket/x.zip", tmp_path / "b", sha256=archive.digest)
    assert len(asked) == 1  # kept, as a download is
    with pytest.raises(EstbenchError, match="another digest"):
        fetch_results("s3://bucket/x.zip", tmp_path / "c", sha256=hashlib.sha256(b"").hexdigest())


def test_what_the_store_raises_is_one_line(archive, tmp_path, monkeypatch):
    def refuse(source, mode):
        raise PermissionError("no key")

    monkeypatch.setitem(sys.modules, "fsspec", types.SimpleNamespace(open=refuse))
    with pytest.raises(EstbenchError, match=r"cannot read 's3://bucket/x\.zip': PermissionError: no key"):
        fetch_results("s3://bucket/x.zip", tmp_path / "a", sha256="1" * 64)


def test_without_fsspec_the_extra_is_named(archive, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(EstbenchError, match=r"estbench\[remote\]"):
        fetch_results("gs://bucket/x.zip", tmp_path / "a", sha256="1" * 64)
