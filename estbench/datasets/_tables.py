"""Tables of pixels (``.csv``, ``.csv.gz``): one image in each row, with or without a header."""

from __future__ import annotations

import gzip
import io
import math
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estbench.datasets._contents import LABELS, WORDS, Contents, Parts, split_named
from estbench.datasets.files import gunzipped
from estbench.errors import EstbenchError
from estbench.limits import UNPACKED_BYTES
from estbench.options import shortened

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = (",", ";", "\t")
# Columns that number the rows; pandas writes "" and reads it as "Unnamed: 0".
NUMBERS = {"", "unnamed: 0", "index", "id"}
# Without a header, rows of one value more than a square of at least this side are taken for images with a label.
SMALLEST_SIDE = 8
# Bytes of a value in memory while a table is read.
BYTES_PER_VALUE = 8
# Bytes that are looked at, or unpacked, at a time.
PIECE = 2**20
LONGEST_SHOWN = 40
LONGEST_REASON = 200


def read_csv_gz(content: bytes, name: str) -> Contents:
    """Return the images of a compressed table."""
    try:
        UNPACKED_BYTES.check(_unpacked_size(content), name)
        text = gunzipped(content, UNPACKED_BYTES.value)
    except (OSError, EOFError, zlib.error) as error:
        raise EstbenchError(f"it is damaged, or no gzip file: {error}; compress it again") from None
    return read_csv(text, name)


def read_csv(content: bytes, name: str) -> Contents:
    """Return the images of a table.

    A column ``split`` says to which split each row belongs. Columns of labels and of row numbers, which only a header
    can name, are left out. All others are pixels; if they are whole numbers from 0 to 255, they are bytes.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    first = content[:PIECE].lstrip(b"\r\n").partition(b"\n")[0].decode("utf-8", "replace").strip("\r")
    separator = next((each for each in SEPARATORS if each in first), ",")
    values = content.count(separator.encode()) + content.count(b"\n")
    UNPACKED_BYTES.check(values * BYTES_PER_VALUE, name)
    header = _is_header([word.strip(' "') for word in first.split(separator)])
    table = _parse(content, separator, header=header)
    if len(table) == 0:
        raise EstbenchError("it has no row of pixels; give one for each image")
    if not header:
        _refuse_unnamed_label(len(table.columns))
    named = {str(column).strip().lower(): column for column in table.columns} if header else {}
    left_out = [column for name, column in named.items() if name in LABELS | NUMBERS]
    rows = _rows_by_split(table[named["split"]]) if "split" in named else {"train": slice(None)}
    pixels = _to_numbers(table.drop(columns=[*left_out, *([named["split"]] if "split" in named else [])]))
    parts: Parts = {split: pixels[chosen] for split, chosen in rows.items()}
    found = f"{len(table):,} rows of {len(table.columns):,} columns, {'with' if header else 'without'} a header"
    return Contents(
        "a table of pixels (.csv)",
        parts,
        (found, *(["column split: the split of each row"] if "split" in named else [])),
        tuple(f"column {column}" for column in left_out),
    )


def _unpacked_size(content: bytes) -> int:
    """Return the size of what is packed, without keeping it; stop a bit above the limit."""
    size = 0
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
        while size <= UNPACKED_BYTES.value and (piece := packed.read(PIECE)):
            size += len(piece)
    return size


def _is_header(words: list[str]) -> bool:
    """Whether a row names columns: some word is no number, or they are 0, 1, 2, ..., as pandas writes them."""
    return not all(map(_is_number, words)) or (len(words) > 4 and words == [str(at) for at in range(len(words))])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _parse(content: bytes, separator: str, *, header: bool) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  (slow to import, and only needed here)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows that are longer than the header
            return pd.read_csv(
                io.BytesIO(content),
                sep=separator,
                header=0 if header else None,
                index_col=False,
                low_memory=False,
                encoding="utf-8",
            )
    except Exception as error:  # noqa: BLE001  (reading garbage may raise anything)
        reason = shortened(" ".join(str(error).split()), LONGEST_REASON)
        advice = "save it again as comma-separated text in UTF-8"
        raise EstbenchError(f"it cannot be read as a table: {reason}; {advice}") from None


def _refuse_unnamed_label(columns: int) -> None:
    side = math.isqrt(columns - 1)
    if side >= SMALLEST_SIDE and side * side == columns - 1:
        raise EstbenchError(
            f"its rows have {columns} values, one more than {side}x{side}, and no header says which one is a label; "
            "add a header that names that column 'label' (or names all columns, if there is none)"
        )


def _rows_by_split(column: pd.Series[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return which rows belong to each split."""
    words = [str(word).strip() for word in column]
    known = {word: split_named(word) for word in set(words)}
    splits = np.array([known[word] or "" for word in words])
    if "" in splits:
        at = int((splits == "").argmax())
        raise EstbenchError(
            f"its column 'split' has '{shortened(words[at], LONGEST_SHOWN)}' in row {at + 1}; "
            f"write one of {', '.join(WORDS)}"
        )
    chosen = {split: splits == split for split in WORDS if split in splits}
    if "train" not in chosen:
        raise EstbenchError("its column 'split' names no row 'train'; name some")
    return chosen


def _to_numbers(table: pd.DataFrame) -> NDArray[Any]:
    """Return the columns as one array; whole numbers from 0 to 255 as bytes."""
    for column, kind in table.dtypes.items():
        if kind.kind not in "biuf":
            at = next((at for at, value in enumerate(table[column]) if not _is_number(str(value))), 0)
            name, text = (shortened(str(each), LONGEST_SHOWN) for each in (column, table[column].iloc[at]))
            raise EstbenchError(
                f"its column '{name}' has '{text}' in row {at + 1}, and pixels are numbers; "
                "remove that column, or name it 'label' to have it left out"
            )
    if table.shape[1] == 0:
        raise EstbenchError("it has no column of pixels; give one for each pixel")
    array = table.to_numpy()
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    return array
