"""Arrays as people have them: each is taken by a stated rule, or refused with one line that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from estbench import EstbenchError, datasets, problems
from estbench.datasets import Dataset, DatasetInfo, checks, register

GREY = np.random.default_rng(0).random((40, 64)).astype(np.float32)
BITS = GREY > 0.5
DYNAMIC = DatasetInfo()


@pytest.fixture
def load(monkeypatch):
    """Load a dataset of these splits."""
    monkeypatch.setattr(datasets.DATASETS, "_entries", dict(datasets.DATASETS._entries))

    def of(train, validation=..., test=..., *, shape=(8, 8), info=DYNAMIC) -> Dataset:
        ready = [train[at : at + 10] if each is ... else each for at, each in ((20, validation), (30, test))]
        register("mine", info)(lambda: Dataset("other", train[:20], *ready, shape=shape))
        return datasets.load("mine")

    return of


def with_value(value, dtype=np.float32):
    changed = GREY.astype(dtype)
    changed[3, 7] = value
    return changed


def read_only():
    images = GREY.copy()
    images.setflags(write=False)
    return images


TAKEN = {
    "float32": (GREY, GREY),
    "float64": (GREY.astype(np.float64), GREY),
    "float16": (GREY.astype(np.float16), GREY.astype(np.float16)),
    "bool": (BITS, BITS),
    "bits as bytes": (BITS.astype(np.uint8), BITS),
    "bits as int64": (BITS.astype(np.int64), BITS),
    "bytes": ((GREY * 255).round().astype(np.uint8), (GREY * 255).round() / 255),
    "square": (GREY.reshape(-1, 8, 8), GREY),
    "one channel": (GREY.reshape(-1, 1, 8, 8), GREY),
    "channel last of one": (GREY.reshape(-1, 8, 8, 1), GREY),
    "reversed": (GREY[::-1], GREY[::-1]),
    "mirrored": (GREY[:, ::-1], GREY[:, ::-1]),
    "fortran": (np.asfortranarray(GREY), GREY),
    "every second": (np.repeat(GREY, 2, axis=1)[:, ::2], GREY),
    "read only": (read_only(), GREY),
    "big endian": (GREY.astype(">f4"), GREY),
    "rounded above": (np.where(GREY > 0.9, 1 + 1e-6, GREY), np.where(GREY > 0.9, 1, GREY)),
    "rounded below": (np.where(GREY < 0.1, -1e-7, GREY), np.where(GREY < 0.1, 0, GREY)),
    "lists": (GREY.tolist(), GREY),
    "tensor": (torch.from_numpy(GREY), GREY),
    "tensor with a gradient": (torch.tensor(GREY, requires_grad=True), GREY),
    "bfloat16": (torch.from_numpy(GREY).bfloat16(), torch.from_numpy(GREY).bfloat16().float().numpy()),
    "bool tensor": (torch.from_numpy(BITS), BITS),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_right_becomes_flat_single_precision(load, name):
    given, expected = TAKEN[name]
    found = load(given)
    assert (found.name, found.shape, found.size) == ("mine", (8, 8), 64)
    for split, rows in (("train", slice(20)), ("validation", slice(20, 30)), ("test", slice(30, 40))):
        images = getattr(found, split)
        np.testing.assert_allclose(images, np.asarray(expected, np.float32)[rows], atol=1e-7)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert images.flags.writeable


def test_a_file_that_is_mapped_into_memory_is_read_and_left_as_it_is(load, tmp_path):
    np.save(tmp_path / "images.npy", GREY)
    before = (tmp_path / "images.npy").read_bytes()
    images = load(np.load(tmp_path / "images.npy", mmap_mode="r+"))
    images.train[:] = 0
    assert (tmp_path / "images.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((4, 4, 4), GREY.reshape(-1, 4, 4, 4)),
        ((1, 8, 8), GREY),
        ([8, 8], GREY),
        ((np.int64(8), 8), GREY),
    ],
)
def test_an_image_may_have_channels(load, shape, given):
    assert load(given, shape=shape).shape == tuple(shape)


def test_one_image_in_each_split_is_enough(load):
    assert len(load(GREY, GREY[20:21], GREY[30:31]).test) == 1


REFUSED = {
    "0 to 255": (GREY * 255, {}, "train.*to 25.*divide by 255"),
    "-1 to 1": (GREY * 2 - 1, {}, r"\[0, 1\].*\(x \+ 1\) / 2"),
    "counts": (np.round(GREY * 16), {}, "from 0 to 16.*divide"),
    "standardised": ((GREY - 0.5) * 6, {}, "from -.*scale them"),
    "a NaN": (with_value(np.nan), {}, "train.*1 NaN.*image 3, value 7.*fill"),
    "infinite": (with_value(-np.inf), {}, "train.*1 infinite.*image 3, value 7"),
    "too large for single precision": (with_value(1e300, np.float64), {}, "1e\\+300"),
    "a NaN elsewhere": (GREY, {"test": with_value(np.nan)[:10]}, "test.*1 NaN"),
    "another range elsewhere": (GREY, {"validation": GREY[20:30] * 255}, "validation.*divide by 255"),
    "integers": ((GREY * 255).astype(np.int64), {}, "integers from 0 to .*uint8"),
    "negative integers": ((GREY * 9).astype(np.int8) - 4, {}, "integers from -4"),
    "dark bytes": ((GREY * 16).astype(np.uint8), {}, "bytes from 0 to 15.*divide"),
    "complex": (GREY.astype(np.complex64), {}, "train.*complex64"),
    "objects": (GREY.astype(object), {}, "train.*object"),
    "strings": (GREY.astype(str), {}, "train.*<U"),
    "dates": (np.zeros((40, 64), "datetime64[s]"), {}, "train.*datetime"),
    "ragged": ([[0.0] * 64, [0.0] * 63] * 20, {}, "no array of numbers"),
    "none": (GREY, {"validation": None}, "validation.*missing.*training images"),
    "no validation": (GREY, {"validation": GREY[:0]}, "validation.*empty.*training images"),
    "no test": (GREY, {"test": GREY[:0]}, "test.*empty"),
    "no training": (GREY[:0], {"validation": GREY[:10], "test": GREY[10:20]}, "train.*empty"),
    "labels": (np.arange(40), {}, r"train.*\(20,\).*labels"),
    "labels in a column": (np.arange(40.0)[:, None], {}, r"train.*\(20, 1\).*64"),
    "a number": (GREY, {"test": 0.5}, r"test.*shape \(\)"),
    "other size": (GREY, {"test": GREY[30:, :60]}, r"test.*\(10, 60\).*8x8 have 64"),
    "transposed": (GREY, {"test": GREY[:10].T}, "test.*transpose"),
    "channels last": (GREY.reshape(-1, 8, 4, 2), {"shape": (2, 8, 4)}, "order of the shape"),
    "height and width": (GREY.reshape(-1, 16, 4), {"shape": (4, 16)}, "order of the shape"),
    "shape of one": (GREY, {"shape": (64,)}, "shape is.*height, width"),
    "shape of zero": (GREY, {"shape": (0, 64)}, "shape is.*height, width"),
    "shape of floats": (GREY, {"shape": (8.0, 8.0)}, "shape is.*height, width"),
    "no shape": (GREY, {"shape": None}, "shape is None"),
    "constant": (np.zeros_like(GREY), {}, "train split is 0 everywhere.*nothing to learn"),
    "sparse": (sparse.csr_matrix(GREY), {}, "sparse.*toarray"),
    "masked": (np.ma.masked_less(GREY, 0.1), {}, "masked"),
    "not binarised": (GREY, {"info": DatasetInfo(binarisation="static")}, "static.*between 0 and 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_one_line_that_names_dataset_split_and_remedy(load, name):
    given, more, complaint = REFUSED[name]
    with pytest.raises(EstbenchError, match=rf"^dataset 'mine': its .*{complaint}") as caught:
        load(given, **more)
    assert "\n" not in str(caught.value)


def test_splits_that_share_images_are_refused(load):
    with pytest.raises(EstbenchError, match="train and test splits are the same memory"):
        load(GREY, GREY[20:30], GREY[10:30])


def test_what_would_not_fit_into_memory_is_refused():
    endless = np.broadcast_to(np.float32(0.5), (checks.MOST_BYTES, 64))
    splits = {"train": endless, "validation": GREY, "test": GREY.copy()}
    with pytest.raises(EstbenchError, match=r"train split would take .*GiB of memory"):
        checks.check_splits(splits, (8, 8), static=False)


@pytest.mark.parametrize(
    ("loader", "complaint"),
    [
        (lambda: 1 / 0, r"ZeroDivisionError.*test_checks\.py, line \d+"),
        (lambda: np.load("no-such-file.npz"), r"FileNotFoundError.*no-such-file.*test_checks\.py, line \d+"),
        (lambda: {"train": GREY}, "gives dict; it must return a Dataset"),
        (lambda _path: GREY, "TypeError.*argument"),
    ],
)
def test_a_function_that_fails_is_one_line_with_its_place(load, loader, complaint):
    load(GREY)
    register("broken")(loader)
    with pytest.raises(EstbenchError, match=rf"dataset 'broken'.*{complaint}") as caught:
        datasets.load("broken")
    assert "\n" not in str(caught.value)


def test_a_dataset_that_is_registered_again_is_loaded_again(load):
    assert not np.array_equal(load(GREY).train, load(1 - GREY).train)


CUSTOM = """
from estbench.problems.problem import register
from estbench.problems.vae import VAE


@register("grey_vae")
class Grey(VAE):
    def {method}(self, *arguments):
        return super().{method}(*arguments)
"""


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("observe", "digits-v1-grey_vae-shuffled-normal-fixed-binary"),
        ("objective", "digits-v1-dynamic-shuffled-normal-fixed-binary-grey_vae"),
        ("encode", "digits-v1-dynamic-shuffled-normal-fixed-binary"),
    ],
)
def test_the_card_of_somebodys_problem_claims_no_binarisation_of_its_own(plugin, method, expected):
    from estbench.plugins import load_plugin

    load_plugin(plugin("grey.py", CUSTOM.format(method=method)))
    assert problems.PROBLEMS.resolve("grey_vae[dataset=digits]").card == expected
