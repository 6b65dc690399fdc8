"""Files of the user: how each kind is read, what its identity is, and what is refused."""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from estbench import EstbenchError, problems
from estbench.datasets import data_id, describe, info, load, own_files

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 4, 5), dtype=np.uint8)
BITS = RNG.integers(0, 2, (20, 4, 4), dtype=np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_png(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def save_folder(folder, images):
    for at, image in enumerate(images):
        save_png(folder / f"{at:03}.png", image)


def all_rows(data):
    """All images of a dataset, in an order that does not depend on its splits."""
    return np.unique(np.concatenate([data.train, data.validation, data.test]), axis=0)


def rows_of(images):
    return np.unique(images.reshape(len(images), -1).astype(np.float32) / np.float32(255), axis=0)


# Kinds of files


def test_splits_of_an_npz_are_those_of_its_arrays(here):
    np.savez(here / "a.npz", x_train=BYTES[:10], val_images=BYTES[10:14], test=BYTES[14:], y_train=np.arange(10))
    data = load("file:a.npz")
    assert data.shape == (4, 5)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 4, 6]
    np.testing.assert_array_equal(data.train, BYTES[:10].reshape(10, 20).astype(np.float32) / np.float32(255))
    own = own_files.read("file:a.npz")
    assert own.left_out == ("array y_train",)
    assert (own.split, own.conversion) == ("own", "divided by 255")


@pytest.mark.parametrize(
    ("arrays", "counts", "split"),
    [
        ({"images": BYTES}, [16, 2, 2], "random"),
        ({"train": BYTES}, [16, 2, 2], "random"),
        ({"x_train": BYTES, "x_test": BYTES[:7], "y_test": np.arange(7)}, [18, 2, 7], "random-validation"),
        ({"train": BYTES, "valid": BYTES[:3]}, [18, 3, 2], "random-test"),
        ({"arr_0": BYTES[:3]}, [1, 1, 1], "random"),
    ],
)
def test_missing_splits_are_tenths_of_the_training_images(here, arrays, counts, split):
    np.savez_compressed(here / "a.npz", **arrays)
    data = load("file:a.npz")
    assert [len(part) for part in (data.train, data.validation, data.test)] == counts
    assert info("file:a.npz").split == split
    assert data_id("file:a.npz").endswith(f"-v1-dynamic-{split}")


def test_the_order_depends_on_nothing_but_the_number_of_images(here):
    for name, images in {"a": BYTES, "b": 255 - BYTES}.items():
        np.save(here / f"{name}.npy", images)
    order = np.random.RandomState(0).permutation(20)
    for name, images in {"a": BYTES, "b": 255 - BYTES}.items():
        data = load(f"file:{name}.npy")
        expected = images[order].reshape(20, 20).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(np.concatenate([data.train, data.validation, data.test]), expected)


COLOURED = RNG.integers(0, 256, (10, 3, 4, 5), dtype=np.uint8)


@pytest.mark.parametrize(
    ("images", "shape", "planes"),
    [
        (BYTES, (4, 5), BYTES),
        (BYTES[:, None], (4, 5), BYTES),
        (BYTES[..., None], (4, 5), BYTES),
        (COLOURED, (3, 4, 5), COLOURED),
        (COLOURED.transpose(0, 2, 3, 1), (3, 4, 5), COLOURED),
        (np.asfortranarray(BYTES), (4, 5), BYTES),
        (BYTES[:, :, :4].reshape(20, 16), (4, 4), BYTES[:, :, :4]),
        (COLOURED[..., :4].reshape(10, 48), (3, 4, 4), COLOURED[..., :4]),
        (BYTES.reshape(20, 20), (1, 20), BYTES),
    ],
    ids=["N,H,W", "N,1,H,W", "N,H,W,1", "N,3,H,W", "N,H,W,3", "by columns", "square", "three squares", "row"],
)
def test_shapes(here, images, shape, planes):
    np.save(here / "a.npy", images)
    data = load("file:a.npy")
    assert data.shape == shape
    np.testing.assert_array_equal(all_rows(data), rows_of(planes))


@pytest.mark.parametrize("kind", [">f4", "<f8", "f2"])
def test_floats_of_any_kind(here, kind):
    images = (BYTES / 255).astype(kind)
    np.save(here / "a.npy", images)
    np.testing.assert_array_equal(all_rows(load("file:a.npy")), np.unique(images.reshape(20, 20).astype("f4"), axis=0))


@pytest.mark.parametrize("images", [BITS, BITS.astype(bool), BITS.astype(float), BITS * 255, BITS.astype(np.int64)])
def test_images_of_zeros_and_ones_are_static(here, images):
    np.save(here / "a.npy", images)
    assert info("file:a.npy").binarisation == "static"
    assert "-static-" in data_id("file:a.npy")
    np.testing.assert_array_equal(all_rows(load("file:a.npy")), np.unique(BITS.reshape(20, 16), axis=0))
    with pytest.raises(EstbenchError, match="likelihood"):
        problems.create("vae[dataset=file:a.npy,likelihood=gaussian]")


CELLS = "\n".join(",".join(map(str, row)) for row in BYTES.reshape(20, 20))
NAMES = ",".join(f"p{at}" for at in range(20))


@pytest.mark.parametrize(
    "text",
    [
        CELLS,
        f"{NAMES}\n{CELLS}\n",
        f"{','.join(map(str, range(20)))}\n{CELLS}",
        f"\ufeff{NAMES}\r\n{CELLS}".replace("\n", "\r\n"),
        f"{NAMES}\n{CELLS}".replace(",", ";"),
        f"{NAMES}\n{CELLS}".replace(",", "\t"),
        f'"p0",{NAMES[3:]}\n{CELLS}\n\n',
    ],
    ids=["bare", "header", "numbers", "windows", "semicolons", "tabs", "quotes"],
)
def test_tables(here, text):
    (here / "a.csv").write_text(text, encoding="utf-8")
    data = load("file:a.csv")
    assert data.shape == (1, 20)
    np.testing.assert_array_equal(all_rows(data), rows_of(BYTES))


def test_a_table_with_labels_numbers_and_splits(here):
    splits = ["train"] * 12 + ["val"] * 5 + ["test"] * 3
    rows = [f"{at},{line},{at % 3},{splits[at]}" for at, line in enumerate(CELLS.splitlines())]
    text = "\n".join([f",{NAMES},Label,split", *rows])
    (here / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    data, own = load("file:a.csv.gz"), own_files.read("file:a.csv.gz")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 5, 3]
    np.testing.assert_array_equal(rows_of(BYTES[:12]), np.unique(data.train, axis=0))
    assert own.left_out == ("column Unnamed: 0", "column Label")
    assert data_id("file:a.csv.gz") == f"{own.word}-v1-dynamic-own"
    assert own.word.startswith("file-a-")


def test_a_folder_of_grey_images(here):
    save_folder(here / "pngs" / "some", BYTES[:10])
    save_folder(here / "pngs" / "others", BYTES[10:])
    (here / "pngs" / "readme.txt").write_text("hello")
    (here / "pngs" / ".DS_Store").write_text("hidden")
    data = load("file:pngs")
    assert data.shape == (4, 5)
    np.testing.assert_array_equal(all_rows(data), rows_of(BYTES))
    assert own_files.read("file:pngs/").left_out == ("readme.txt",)
    assert describe("file:pngs").startswith("a folder of PNG files: 16 / 2 / 2 images of 4 x 5")


@pytest.mark.parametrize("height", [3, 4])
def test_a_folder_of_coloured_images_with_splits(here, height):
    pixels = COLOURED.transpose(0, 2, 3, 1)[:, :height]
    for folder, images in {"train": pixels[:6], "val": pixels[6:8], "test/deep": pixels[8:]}.items():
        save_folder(here / "pngs" / folder, images)
    save_folder(here / "pngs" / "drafts", pixels[:1])
    data = load("file:pngs")
    assert data.shape == (3, height, 5)
    expected = [COLOURED[:6, :, :height], COLOURED[6:8, :, :height], COLOURED[8:, :, :height]]
    for part, images in zip((data.train, data.validation, data.test), expected, strict=True):
        np.testing.assert_allclose(part, images.reshape(len(images), -1) / 255, rtol=1e-6)
    assert own_files.read("file:pngs").left_out == ("drafts/000.png (in no folder of a split)",)


def test_modes_of_png_files(here):
    grey = BYTES[0]
    alpha = np.full((4, 5), 255, np.uint8)
    alpha[0, 0] = 0
    red = np.zeros((4, 5, 4), np.uint8)
    red[..., 0], red[..., 3] = 200, alpha
    palette = Image.fromarray(COLOURED[0].transpose(1, 2, 0)).quantize(8)
    deep = grey.astype(np.uint16) * 257
    folder = here / "pngs"
    folder.mkdir()
    for name, image in {
        "a-grey": Image.fromarray(grey),
        "b-alpha": Image.fromarray(red),
        "c-palette": palette,
        "d-deep": Image.fromarray(deep),
        "e-bits": Image.fromarray(grey > 100),
        "f-full": Image.fromarray(np.dstack([grey, np.full_like(grey, 255)])),
    }.items():
        image.save(folder / f"{name}.png")
    own = own_files._images.read_folder(
        own_files._images.list_folder(folder), lambda file: (folder / file).read_bytes()
    )
    images = own.parts["train"]
    assert images.shape == (6, 3, 4, 5)
    for at in (0, 3, 5):
        np.testing.assert_array_equal(images[at], np.stack([grey] * 3))
    assert images[1, :, 0, 0].tolist() == [255, 255, 255]
    assert images[1, :, 1, 1].tolist() == [200, 0, 0]
    np.testing.assert_array_equal(images[2].transpose(1, 2, 0), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(images[4, 0], 255 * (grey > 100))
    notes = " ".join(own.notes)
    for words in ("laid over white (1", "palette", "16 bits", "is dropped (1", "three equal channels (4"):
        assert words in notes


# Identity


def test_the_content_is_the_identity(here):
    np.save(here / "a.npy", BYTES)
    first = data_id("file:a.npy")
    assert re.fullmatch("file-a-[0-9a-f]{8}-v1-dynamic-random", first)
    data = load("file:a.npy")
    assert load("file:a.npy") is data
    np.save(here / "a.npy", 255 - BYTES)
    os.utime(here / "a.npy", ns=(1, 1))
    assert data_id("file:a.npy") != first
    np.testing.assert_array_equal(all_rows(load("file:a.npy")), rows_of(255 - BYTES))
    np.save(here / "a.npy", BYTES)
    assert data_id("file:a.npy") == first
    with pytest.raises(EstbenchError, match="was changed"):
        own_files.check_unchanged("file:a.npy", "file-a-00000000-v1-dynamic-random-normal-fixed-binary")
    own_files.check_unchanged("file:a.npy", f"{first}-normal-fixed-binary")


def test_a_file_is_read_once(here, monkeypatch):
    np.save(here / "a.npy", BYTES)
    reads = []
    content = own_files._content
    monkeypatch.setattr(own_files, "_content", lambda *given: reads.append(given) or content(*given))
    for _ in range(3):
        data_id("file:a.npy")
        load("file:a.npy")
        load("file:./a.npy")
    assert len(reads) == 1


def test_names_and_bytes_of_a_folder_are_its_identity(here):
    save_folder(here / "a" / "pngs", BYTES)
    save_folder(here / "b" / "pngs", BYTES)
    (here / "b" / "pngs" / "notes.txt").write_text("not an image")
    first = data_id("file:a/pngs")
    assert data_id("file:b/pngs") == first
    (here / "b" / "pngs" / "000.png").rename(here / "b" / "pngs" / "999.png")
    assert data_id("file:b/pngs") != first
    save_png(here / "a" / "pngs" / "005.png", BYTES[6])
    assert data_id("file:a/pngs") != first


def test_paths(here, monkeypatch):
    (here / "my faces (2)").mkdir()
    np.save(here / "my faces (2)" / "Été 1.npy", BYTES)
    name = "file:my faces (2)/Été 1.npy"
    problem = problems.create(f'vae[dataset="{name}",hidden=[]]')
    assert problem.options.dataset == name
    assert data_id(name).startswith("file-t-1-")
    monkeypatch.setenv("HOME", str(here))
    assert load("file:~/my faces (2)/Été 1.npy").shape == (4, 5)
    (here / "link.npy").symlink_to("my faces (2)/Été 1.npy")
    assert load("file:link.npy").shape == (4, 5)


def test_a_process_elsewhere_finds_relative_paths(here, monkeypatch, tmp_path_factory):
    np.save(here / "a.npy", BYTES)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(EstbenchError, match="no such file"):
        load("file:a.npy")
    try:
        own_files.relative_to(here)
        assert load("file:a.npy").shape == (4, 5)
    finally:
        own_files.relative_to(None)


def test_a_file_without_its_prefix_is_told(here):
    with pytest.raises(EstbenchError, match=r"write file:faces\.npz"):
        problems.create("vae[dataset=faces.npz]")


# What is refused


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz_bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("train.npy", "w") as entry:
        for _ in range(40):
            entry.write(bytes(2**20))
    return file.getvalue()


def png(pixels=BYTES[0], **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def png_bomb(side=60_000):
    """A header that promises billions of pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(100)


def damaged(content):
    return content[: len(content) // 2] + bytes(8)


WITH_NAN = (BYTES / 255).tolist()
WITH_NAN[3][0][1] = float("nan")
# By the file's name: its content, or a folder's files, and words of the message.
REFUSED = {
    "missing": ("face.npy", None, "did you mean 'faces.npy'"),
    "missing folder": ("no/face.npy", None, "no folder 'no'"),
    "no name": ("", None, "names no file"),
    "null": ("a\0.npy", None, "names no file"),
    "too long": ("a" * 5000 + ".npy", None, "cannot be read|no such file"),
    "ending": ("a.jpeg", b"x", "ending is '.jpeg'"),
    "no ending": ("images", b"x", "ending is ''"),
    "one image": ("a.png", png(), "one image"),
    "matlab": ("a.mat", b"x", "convert"),
    "npy damaged": ("a.npy", b"\x93NUMPY" + bytes(50), "damaged"),
    "npy cut": ("a.npy", npy(BYTES)[:-5], "header says"),
    "npy with a false shape": ("a.npy", npy(BYTES).replace(b"(20, 4, 5)", b"(99999999,"), "damaged"),
    "npy with a huge shape": ("a.npy", npy(BYTES).replace(b"(20, 4, 5)", b"(9**9, 4,)"), "damaged"),
    "npz of zeros": ("a.npz", bytes(100), "no .npz"),
    "npz cut": ("a.npz", npz(train=BYTES)[:-30], "no .npz"),
    "npz with a false sum": ("a.npz", npz(train=BYTES).replace(BYTES.tobytes()[:40], bytes(40)), "damaged"),
    "npz without arrays": ("a.npz", npz(), "none of them holds"),
    "npz of labels": ("a.npz", npz(labels=np.arange(5)), "none of them holds"),
    "npz of several": ("a.npz", npz(a=BYTES, b=BYTES), "several of them"),
    "npz with two train splits": ("a.npz", npz(train=BYTES, x_train=BYTES), "both its train split"),
    "npz without train": ("a.npz", npz(test=BYTES), "no training images"),
    "npz of two sizes": ("a.npz", npz(train=BYTES, test=BYTES[:, :3]), "make them agree"),
    "npz bomb": ("a.npz", npz_bomb(), "ESTBENCH_MAX_UNPACKED_BYTES"),
    "objects": ("a.npy", npy(np.array([[1, "a"], [None, 2]], object)), "Python objects"),
    "objects in npz": ("a.npz", npz(train=np.array([[None]], object)), "Python objects"),
    "text array": ("a.npy", npy(np.array([["a", "b"]] * 5)), "give numbers"),
    "complex": ("a.npy", npy(BYTES * 1j), "give numbers"),
    "structured": ("a.npy", npy(np.zeros((5, 3), [("a", "u1")])), "give numbers"),
    "NaN": ("a.npy", npy(np.array(WITH_NAN)), r"1 NaN \(the first in image 3, value 1\)"),
    "infinite": ("a.npy", npy(np.where(BYTES > 200, np.inf, 0.5)), "infinite"),
    "beyond": ("a.npy", npy(BYTES.astype(float)), "divide by 255"),
    "negative": ("a.npy", npy(BYTES / 127.5 - 1), r"\(x \+ 1\) / 2"),
    "integers": ("a.npy", npy(BYTES.astype(int) * 10), "divide them"),
    "dark": ("a.npy", npy(BYTES // 20), "range of bytes"),
    "constant": ("a.npy", npy(np.ones((20, 4, 4))), "nothing to learn"),
    "a number": ("a.npy", npy(np.float32(1)), "one row for each image"),
    "labels": ("a.npy", npy(np.arange(20)), "one row for each image"),
    "four channels": ("a.npy", npy(np.zeros((5, 4, 6, 4), np.uint8)), r"give \(N, H, W\)"),
    "five axes": ("a.npy", npy(np.zeros((5, 1, 2, 3, 4))), r"give \(N, H, W\)"),
    "no images": ("a.npy", npy(BYTES[:0]), "empty"),
    "no pixels": ("a.npy", npy(BYTES[:, :0]), "empty"),
    "too few": ("a.npy", npy(BYTES[:2]), "has 2 images"),
    "csv empty": ("a.csv", b"", "cannot be read as a table|no column"),
    "csv of a header": ("a.csv", NAMES.encode(), "no row of pixels"),
    "csv with text": ("a.csv", b"a,b,c,d\n1,2,3,4\n5,x,7,8\n", "column 'b' has 'x' in row 2"),
    "csv with names": ("a.csv", b"name,b,c,d\nann,2,3,4\n", "column 'name' has 'ann'"),
    "csv with a gap": ("a.csv", b"a,b\n1,2\n3,\n5,6\n7,8\n", "1 NaN"),
    "csv ragged": ("a.csv", b"1,2,3\n4,5,6\n7,8,9,10\n", "cannot be read as a table"),
    "csv longer than its header": ("a.csv", b"a,b\n1,2,3\n4,5,6\n", "cannot be read as a table"),
    "csv of bytes": ("a.csv", bytes(range(128, 256)), "cannot be read as a table"),
    "csv with 1000": ("a.csv", b"1,1000\n5,6\n7,8\n", "divide them"),
    "csv of labels": ("a.csv", b"label\n1\n2\n3\n", "no column of pixels"),
    "csv with a label?": ("a.csv", (("1," * 64) + "7\n").encode() * 5, "one more than 8x8"),
    "csv with a strange split": ("a.csv", b"a,split\n1,train\n2,exam\n", "'exam' in row 2"),
    "csv with a row of no split": ("a.csv", b"a,split\n1,train\n2,\n", "'nan' in row 2"),
    "csv without train": ("a.csv", b"a,split\n1,test\n2,test\n", "no row 'train'"),
    "gz damaged": ("a.csv.gz", damaged(gzip.compress(CELLS.encode())), "no gzip"),
    "gz bomb": ("a.csv.gz", gzip.compress(bytes(40 * 2**20)), "ESTBENCH_MAX_UNPACKED_BYTES"),
    "csv of commas": ("a.csv", b"," * 10**7, "ESTBENCH_MAX_UNPACKED_BYTES"),
    "large": ("a.npy", npy(np.zeros((3, 2**23), np.uint8)), "ESTBENCH_MAX_DATA_BYTES"),
    "folder empty": ("pngs", {}, "is empty"),
    "folder of others": ("pngs", {"a.jpg": b"x"}, "1 other files"),
    "folder of two sizes": ("pngs", {"a.png": png(), "b.png": png(), "c.png": png(BYTES[0].T)}, "'c.png' has 4 x 5"),
    "png damaged": ("pngs", {"a.png": png(), "b.png": png()[:60]}, "'b.png' is damaged"),
    "png that is none": ("pngs", {"a.png": b"GIF89a"}, "'a.png' is damaged"),
    "png empty": ("pngs", {"a.png": b""}, "'a.png' is damaged"),
    "png bomb": ("pngs", {"a.png": png_bomb()}, "ESTBENCH_MAX_UNPACKED_BYTES"),
    "folder without train": ("pngs", {"test/a.png": png()}, "none for train"),
    "folder of two images": ("pngs", {"a.png": png(), "b.png": png()}, "has 2 images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_one_clear_error(here, name, monkeypatch):
    monkeypatch.setenv("ESTBENCH_MAX_UNPACKED_BYTES", str(32 * 2**20))
    monkeypatch.setenv("ESTBENCH_MAX_DATA_BYTES", str(16 * 2**20))
    (here / "faces.npy").write_bytes(npy(BYTES))
    path, content, words = REFUSED[name]
    if isinstance(content, dict):
        (here / path).mkdir()
        for file, inner in content.items():
            (here / path / file).parent.mkdir(exist_ok=True)
            (here / path / file).write_bytes(inner)
    elif content is not None:
        (here / path).write_bytes(content)
    for use in (load, info, data_id, describe):
        with pytest.raises(EstbenchError, match=words) as caught:
            use(f"file:{path}")
        message = str(caught.value)
        assert message.startswith("dataset 'file:")
        assert str(here) not in message
        assert "\n" not in message
    with pytest.raises(EstbenchError, match="dataset"):
        problems.create(problems.problem.Variant("vae", {"dataset": f"file:{path}"}))


def test_a_pipe_and_a_device_are_refused_at_once(here):
    os.mkfifo(here / "a.npy")
    with pytest.raises(EstbenchError, match="is a pipe"):
        load("file:a.npy")
    with pytest.raises(EstbenchError, match="is a device"):
        load("file:/dev/zero")
    save_folder(here / "pngs", BYTES[:3])
    os.mkfifo(here / "pngs" / "b.png")
    with pytest.raises(EstbenchError, match=r"'b\.png' is no regular file"):
        load("file:pngs")


def test_a_link_that_leads_nowhere_is_named(here):
    save_folder(here / "pngs", BYTES[:3])
    (here / "pngs" / "lost.png").symlink_to("nowhere")
    with pytest.raises(EstbenchError, match=r"'lost\.png' cannot be read"):
        load("file:pngs")


def test_a_folder_of_too_many_files_is_refused(here, monkeypatch):
    monkeypatch.setattr(own_files._images, "MOST_FILES", 5)
    save_folder(here / "pngs", BYTES[:6])
    with pytest.raises(EstbenchError, match="more than 5 files"):
        load("file:pngs")
