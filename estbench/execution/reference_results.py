"""Get published results: those that belong to this version of estbench, or an archive from anywhere."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from estbench._version import __version__
from estbench.datasets.fetch import Progress, fetch
from estbench.datasets.files import DataFile
from estbench.errors import EstbenchError, did_you_mean
from estbench.limits import ARCHIVE_BYTES
from estbench.store.archive import SUFFIX, Archive
from estbench.store.merge import join
from estbench.store.pack import PUBLISHED
from estbench.store.results import Results

INDEX = Path(__file__).with_name("reference_results.toml")
RELEASE = f"https://github.com/estbench/estbench/releases/download/v{__version__}/{{name}}{SUFFIX}"


class Published(NamedTuple):
    """An archive of reference results: its digest, and its bytes."""

    sha256: str
    bytes: int


@cache
def reference_results() -> dict[str, Published]:
    """Return the archives that belong to this version of estbench, by the name of their experiment."""
    return {name: Published(**entry) for name, entry in tomllib.loads(INDEX.read_text(encoding="utf-8")).items()}


def fetch_results(
    source: str,
    out: str | Path | None = None,
    *,
    sha256: str = "",
    folder: str | Path | None = None,
    progress: Progress = lambda _name, _done, _all: None,
) -> Results:
    """Get an archive, check its digest, unpack it into a new results folder, and load it.

    Parameters
    ----------
    source
        The name of a reference experiment, a file, or an address: ``https://...``, or ``s3://``, ``gs://``, ``hf://``
        and others if fsspec and what it needs are installed.
    out
        The new results folder; ``results/<name of the experiment>`` if not given.
    sha256
        The digest that the archive must have; known for a name, and needed for an address.
    folder
        A folder with the archives of names, in place of the release: ``NAME.zip``, or ``NAME/records.zip``.

    Raises
    ------
    EstbenchError
        If the source is unknown, cannot be reached or has another digest, if the archive is damaged, or if ``out`` is
        not empty.
    """
    path = _get(source, sha256, folder, progress)
    archive = Archive(path)
    if sha256 and archive.digest != sha256.lower():
        raise EstbenchError(f"'{path}' has the digest {archive.digest}, and not {sha256}; get it again")
    return join([path], out or Path("results") / _name_of(archive))


def _name_of(archive: Archive) -> str:
    name = str(archive.plan.get("experiment", {}).get("name", ""))
    if not name.replace("-", "").replace("_", "").isalnum():
        raise EstbenchError(f"'{archive.path}' does not say the name of its experiment; name a new folder with -o")
    return name


def _get(source: str, sha256: str, folder: str | Path | None, progress: Progress) -> Path:
    """Return the path of the archive on this machine."""
    if "://" in source:
        if not sha256:
            raise EstbenchError("an archive from an address needs its digest: add --sha256")
        name = f"results/{sha256.lower()}{SUFFIX}"
        if source.startswith(("http://", "https://")):
            return _downloaded(DataFile(name, f"sha256:{sha256.lower()}", (source,)), progress)
        return _from_store(source, DataFile(name, f"sha256:{sha256.lower()}", ()))
    if Path(source).is_file():
        return Path(source)
    known = reference_results()
    if folder is not None:
        for path in (Path(folder) / f"{source}{SUFFIX}", Path(folder) / source / PUBLISHED):
            if path.is_file():
                return path
        raise EstbenchError(f"'{folder}' has neither {source}{SUFFIX} nor {source}/{PUBLISHED}")
    if source not in known:
        raise EstbenchError(f"no file and no reference results '{source}'; {did_you_mean(source, known)}")
    entry = known[source]
    url = RELEASE.format(name=source)
    return _downloaded(DataFile(f"results/{source}{SUFFIX}", f"sha256:{entry.sha256}", (url,), entry.bytes), progress)


def _downloaded(file: DataFile, progress: Progress) -> Path:
    fetch(file, progress=progress)
    return file.path


def _from_store(source: str, file: DataFile) -> Path:
    """Read an object store by fsspec, which is an extra, and keep the file as a download is kept."""
    if file.state() == "verified":
        return file.path
    try:
        import fsspec  # noqa: PLC0415  (an extra that not everybody has)
    except ImportError:
        raise EstbenchError(f"'{source}' needs fsspec: pip install 'estbench[remote]'") from None
    try:
        with fsspec.open(source, "rb") as remote:
            content: bytes = remote.read(ARCHIVE_BYTES.value + 1)
    except Exception as error:  # noqa: BLE001  (each kind of store has errors of its own)
        raise EstbenchError(f"cannot read '{source}': {type(error).__name__}: {error}") from None
    ARCHIVE_BYTES.check(len(content), source)
    if not file.accepts(content):
        raise EstbenchError(f"'{source}' has another digest than {file.digest}; get it again")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    file.path.write_bytes(content)
    return file.path
