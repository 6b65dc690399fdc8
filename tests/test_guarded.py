"""No path out of a results folder: links are never followed, and only regular files are opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from estbench import EstbenchError
from estbench.guarded import TEMPORARY, GuardedPath
from estbench.limits import Limit, TooLargeError

READING = {
    "read_bytes": lambda path: path.read_bytes(),
    "read_text": lambda path: path.read_text(),
    "read_end": lambda path: path.read_end(10),
    "open": lambda path: path.open().close(),
}
LOOKING = {
    "stat": lambda path: path.stat(),
    "exists": lambda path: path.exists(),
    "is_file": lambda path: path.is_file(),
}
ADDING = {"appended": lambda path: path.appended().close()}
REPLACING = {
    "write_bytes": lambda path: path.write_bytes(b"new"),
    "write_text": lambda path: path.write_text("new"),
}
REMOVING = {"unlink": lambda path: path.unlink(), "remove": lambda path: path.remove()}
INSIDE = {
    **READING,
    **ADDING,
    **REPLACING,
    **REMOVING,
    "mkdir": lambda path: (path / "x").mkdir(),
    "claimed": lambda path: (path / "new").claimed().close(),
}


def ids(table):
    return {"argvalues": table.values(), "ids": table.keys()}


@pytest.fixture
def outside(tmp_path) -> Path:
    """A folder of the user's, with a file, that nothing may touch."""
    folder = tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    (folder / "file").write_text("mine")
    (folder / "inner" / "file").write_text("mine")
    return folder


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def content(folder):
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()} | {
        path: None for path in folder.rglob("*") if path.is_dir()
    }


@pytest.fixture(params=["descriptors", "none"])
def systems(request, monkeypatch):
    """With the descriptors of this system, and as on one that has none."""
    if request.param == "none":
        monkeypatch.setattr("estbench.guarded.DESCRIPTORS", False)


@pytest.mark.usefixtures("systems")
@pytest.mark.parametrize("use", **ids(READING | LOOKING | ADDING))
@pytest.mark.parametrize("target", ["file", "nowhere", "inner"])
def test_a_link_is_refused(root, outside, use, target):
    (root / "link").symlink_to(outside / target)
    before = content(outside)
    with pytest.raises(EstbenchError, match=r"link' is a symbolic link.*remove it"):
        use(GuardedPath(root) / "link")
    assert content(outside) == before


@pytest.mark.usefixtures("systems")
@pytest.mark.parametrize("use", **ids(REPLACING | REMOVING))
@pytest.mark.parametrize("target", ["file", "nowhere", "inner"])
def test_what_writes_or_removes_takes_the_link_and_not_its_target(root, outside, use, target):
    (root / "link").symlink_to(outside / target)
    before = content(outside)
    try:
        use(GuardedPath(root) / "link")
    except EstbenchError as error:
        assert "symbolic link" in str(error)  # noqa: PT017  (it need not fail)
    assert content(outside) == before


@pytest.mark.usefixtures("systems")
@pytest.mark.parametrize("use", **ids(INSIDE))
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_step_of_a_path_goes_through_a_link(root, outside, use, depth):
    path = GuardedPath(root)
    for name in ["a", "b"][:depth]:
        path /= name
    path.mkdir()
    (Path(path) / "link").symlink_to(outside)
    before = content(outside)
    with pytest.raises(EstbenchError, match=r"link' is a symbolic link"):
        use(path / "link" / "inner" / "file")
    with pytest.raises(EstbenchError, match=r"link' is a symbolic link"):
        use(path / "link" / "file")
    assert content(outside) == before


@pytest.mark.usefixtures("systems")
def test_links_are_listed_by_name_and_never_entered(root, outside):
    (root / "link").symlink_to(outside)
    (root / "folder").mkdir()
    (root / "folder" / "link").symlink_to(outside)
    path = GuardedPath(root)
    assert path.names() == ["folder", "link"]
    with pytest.raises(EstbenchError, match="symbolic link"):
        (path / "link").names()
    assert {str(each) for each, _ in path.walk()} == {
        str(root),
        *(str(root / name) for name in ("folder", "link", "folder/link")),
    }
    before = content(outside)
    (path / "folder").remove()
    assert path.names() == ["link"]
    assert content(outside) == before


@pytest.mark.usefixtures("systems")
def test_the_folder_that_the_user_names_may_be_a_link(root, tmp_path):
    (tmp_path / "named").symlink_to(root)
    path = GuardedPath(tmp_path / "named") / "cells" / "a.txt"
    path.write_text("x")
    assert (root / "cells" / "a.txt").read_text() == path.read_text() == "x"
    assert path.parent.is_dir()
    assert (path.parent.parent).is_dir()


@pytest.mark.usefixtures("systems")
def test_a_second_name_of_a_file_is_read_and_replaced_but_never_added_to(root, outside):
    os.link(outside / "file", root / "twin")
    path = GuardedPath(root) / "twin"
    assert path.read_text() == "mine"
    with pytest.raises(EstbenchError, match="hard link"):
        path.appended()
    path.write_text("new")
    assert path.read_text() == "new"
    path.unlink()
    assert (outside / "file").read_text() == "mine"


def pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def listening(path):
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.usefixtures("systems")
@pytest.mark.parametrize("use", **ids(READING | ADDING))
@pytest.mark.parametrize(("make", "kind"), [(pipe, "a pipe"), (folder, "a folder"), (listening, "a socket")])
def test_what_is_no_regular_file_is_one_line_and_never_waited_for(root, use, make, kind):
    make(root / "odd")
    with pytest.raises(EstbenchError, match=rf"odd' is {kind} and no regular file; remove it"):
        use(GuardedPath(root) / "odd")
    (GuardedPath(root) / "odd").remove()
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("use", **ids(READING))
def test_a_device_is_no_regular_file(use):
    with pytest.raises(EstbenchError, match="a device"):
        use(GuardedPath("/dev") / "zero")
    with pytest.raises(EstbenchError, match="a device"):
        use(GuardedPath("/dev/zero"))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a\0b", "a/"])
def test_names_that_lead_elsewhere_are_refused(root, name):
    with pytest.raises(EstbenchError, match="not a valid name"):
        GuardedPath(root) / name


@pytest.mark.usefixtures("systems")
def test_a_link_that_is_put_in_place_of_the_temporary_file_cannot_be_guessed(root, outside, monkeypatch):
    """Even one who knows the name in advance gets an error, because the file is made and never opened."""
    monkeypatch.setattr("estbench.guarded.secrets.token_hex", lambda size: "0" * 2 * size)
    name = f".a.txt.{'0' * 16}.tmp"
    assert TEMPORARY.fullmatch(name)
    (root / name).symlink_to(outside / "file")
    with pytest.raises(FileExistsError):
        (GuardedPath(root) / "a.txt").write_text("new")
    assert (outside / "file").read_text() == "mine"


def test_two_writers_never_share_a_temporary_file(root):
    path = GuardedPath(root) / "a.txt"
    with path.replaced() as one, path.replaced() as two:
        assert len({name for name in path.parent.names() if TEMPORARY.fullmatch(name)}) == 2
        one.write(b"one")
        two.write(b"two")
    assert path.read_text() == "one"
    assert path.parent.names() == ["a.txt"]


def test_sizes_are_bounded_and_the_bound_can_be_raised(root, monkeypatch):
    path, limit = GuardedPath(root) / "a.txt", Limit("OF_A_TEST", 3, "bytes")
    path.write_text("long")
    with pytest.raises(TooLargeError, match=r"a\.txt'.* 4 bytes.* 3;.*ESTBENCH_MAX_OF_A_TEST"):
        path.read_bytes(limit)
    monkeypatch.setenv("ESTBENCH_MAX_OF_A_TEST", "4")
    assert path.read_bytes(limit) == b"long"
    for wrong in ("many", "-1", "1e9", "9" * 30):
        monkeypatch.setenv("ESTBENCH_MAX_OF_A_TEST", wrong)
        with pytest.raises(EstbenchError, match="ESTBENCH_MAX_OF_A_TEST takes a whole number"):
            path.read_bytes(limit)


def test_half_of_a_surrogate_pair_is_written_as_its_number(root):
    path = GuardedPath(root) / "a.txt"
    path.write_text("a\ud800b")
    assert path.read_text() == "a\\ud800b"


def test_folders_in_folders_without_end_are_one_line(root):
    deepest = root
    for _ in range(40):
        deepest /= "d"
    deepest.mkdir(parents=True)
    with pytest.raises(EstbenchError, match="nested folders"):
        list(GuardedPath(root).walk())
    (GuardedPath(root) / "d").remove()
    assert list(root.iterdir()) == []


@pytest.mark.usefixtures("systems")
def test_a_folder_in_the_place_of_a_file_is_not_written_over(root):
    (root / "a.json").mkdir()
    with pytest.raises(EstbenchError, match="is a folder"):
        (GuardedPath(root) / "a.json").write_text("new")
    assert [path.name for path in root.iterdir()] == ["a.json"]
