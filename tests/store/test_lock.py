"""One process at a time, with the locks of the system and without."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from estbench import EstbenchError
from estbench.store.lock import DEAD_SECONDS, exclusive, one_run

NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


@pytest.fixture(params=[None, *NO_LOCKS], ids=lambda number: errno.errorcode.get(number, "locks"))
def system(request, monkeypatch):
    """A file system with locks, and some without; returns what is noted of it."""
    if request.param is not None:

        def refuse(_descriptor, **_):
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr("filelock.lock_descriptor", refuse)
    return request.param


def test_a_second_run_is_refused_and_told_who_is_at_work(tmp_path, system):
    noted = []
    with one_run(tmp_path, noted.append):
        with (
            pytest.raises(EstbenchError, match=rf"another run is at work.*process {os.getpid()} on"),
            one_run(tmp_path),
        ):
            pass
        assert len(noted) == (system is not None)
        assert all("has no locks" in line for line in noted)
    assert list(tmp_path.iterdir()) == []
    with one_run(tmp_path):
        pass


@pytest.mark.usefixtures("system")
def test_a_holder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), exclusive(tmp_path / "x"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("name", [".lock", ".lock.claim"])
@pytest.mark.parametrize("make", ["link", "dangling", "twin", "pipe", "folder"])
def test_nothing_of_the_users_is_changed_through_a_lock(tmp_path, name, make):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "r"
    folder.mkdir()
    path = folder / name
    match make:
        case "link":
            path.symlink_to(victim)
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "twin":
            os.link(victim, path)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    try:
        with one_run(folder):
            pass
    except EstbenchError as error:
        assert str(error)  # noqa: PT017  (a name that this system does not use is left alone)
    assert victim.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


DIES = """
import os, sys
sys.path.insert(0, {source!r})
import filelock
from estbench.store.lock import exclusive

def refuse(_descriptor, **_):
    raise OSError({number}, "no locks")

if {number}:
    filelock.lock_descriptor = refuse
with exclusive({path!r}) as file:
    file.write("was here")
    file.flush()
    os._exit(9)
"""


def test_a_killed_holder_frees_the_lock(tmp_path, system, environment):
    path = str(tmp_path / "x")
    script = DIES.format(source=str(Path(__file__).parents[2]), number=system or 0, path=path)
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 9
    with exclusive(path) as file:
        file.seek(0)
        assert file.read() == "was here"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("age", "free"), [(0, False), (DEAD_SECONDS / 2, False), (2 * DEAD_SECONDS, True)])
def test_a_holder_on_another_machine_counts_as_dead_when_it_gives_no_sign(tmp_path, monkeypatch, age, free):
    def refuse(_descriptor, **_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    claim = tmp_path / "x.claim"
    claim.write_text("1 elsewhere")
    then = time.time() - age
    os.utime(claim, (then, then))
    if free:
        with exclusive(tmp_path / "x"):
            assert claim.read_text().startswith(str(os.getpid()))
    else:
        with pytest.raises(BlockingIOError), exclusive(tmp_path / "x"):
            pass
        assert claim.read_text() == "1 elsewhere"


def test_another_fault_of_the_machine_is_not_taken_for_a_lack_of_locks(tmp_path, monkeypatch):
    def broken(_descriptor, **_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("filelock.lock_descriptor", broken)
    with pytest.raises(OSError, match="Input/output"), exclusive(tmp_path / "x"):
        pass


def test_the_store_needs_no_module_of_one_system(environment):
    script = "import sys; sys.modules['fcntl'] = None; import estbench.store, estbench.store.lock, estbench.guarded"
    script += "\nfrom estbench.store.attempts import attempt"
    # filelock itself asks for it, and does without.
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0
