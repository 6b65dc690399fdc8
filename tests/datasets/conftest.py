"""Files of a dataset that are made here, under the digests that they happen to have."""

from __future__ import annotations

import hashlib

import pytest

from estbench.datasets import files


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """Write a file into a data folder of its own; return what is known of it, with the given sources."""
    known = dict(files.known_files())
    monkeypatch.setattr(files, "known_files", lambda: known)
    monkeypatch.setenv(files.DATA_DIR, str(tmp_path / "data"))

    def plant(name, content, urls=(), *, there=True):
        known[name] = files.DataFile(name, f"sha256:{hashlib.sha256(content).hexdigest()}", tuple(urls))
        if there:
            known[name].path.parent.mkdir(parents=True, exist_ok=True)
            known[name].path.write_bytes(content)
        return known[name]

    return plant
