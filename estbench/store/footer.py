"""The codecs of a Parquet file, read from its footer before Arrow reads the file.

Arrow ends the process at a codec that it does not know, and unpacks the others without a limit. The footer is in
Thrift's compact protocol; everything but the codecs is skipped.
"""

from __future__ import annotations

import os
from typing import IO

MAGIC = b"PAR1"
UNPACKED, PACKED = (2,), (3,)  # sizes in the header of a page, by field numbers
MOST_BYTES = 10**6
MOST_DEPTH = 30
# The path to a codec, by field numbers: row groups, columns, metadata, codec.
CODEC = (4, 1, 3, 4)
# Types of values in the protocol.
TRUE, FALSE, BYTE, SHORT, LONG, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12


def read_codecs(file: IO[bytes]) -> set[int]:
    """Return the numbers of all codecs of a Parquet file; raise ``ValueError`` or ``LookupError`` if it is damaged."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length > min(size - 8, MOST_BYTES):
        raise ValueError("it has no footer")
    file.seek(size - 8 - length)
    reader = _Reader(file.read(length))
    reader.read_value(STRUCT, ())
    file.seek(0)
    return reader.codecs


def count_unpacked_bytes(content: bytes, start: int, length: int) -> int:
    """Return the sum of the sizes that the pages of one column claim to have when they are unpacked.

    A codec is given just so much room, so it can unpack no more. Raises ``ValueError`` or ``LookupError`` if a page's
    header is damaged.

    Parameters
    ----------
    content
        The whole file.
    start, length
        Where the column's pages begin, and the bytes that they take.
    """
    reader, end, total = _Reader(content, start), start + length, 0
    while reader.at < end:
        reader.numbers.clear()
        reader.read_value(STRUCT, ())
        packed, unpacked = (reader.numbers.get(field, -1) for field in (PACKED, UNPACKED))
        if packed < 0 or unpacked < 0:
            raise ValueError("the header of a page is damaged")
        total += unpacked
        reader.at += packed
    if reader.at != end or end > len(content):
        raise ValueError("a page is cut short")
    return total


class _Reader:
    """Reads Thrift's bytes from ``at`` on; collects the codecs of a footer, and the numbers of the last structure."""

    def __init__(self, content: bytes, at: int = 0) -> None:
        self.content = content
        self.at = at
        self.codecs: set[int] = set()
        self.numbers: dict[tuple[int, ...], int] = {}

    def read_number(self) -> int:
        value = shift = 0
        while True:
            byte = self.content[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("its footer has a number that is too long")

    def read_value(self, kind: int, path: tuple[int, ...], depth: int = 0) -> None:
        """Skip a value, or collect it if it is a codec; ``path`` has the field numbers that lead to it."""
        if depth > MOST_DEPTH:
            raise ValueError("its footer is nested too deep")
        if kind in {TRUE, FALSE, BYTE}:
            self.at += 1
        elif SHORT <= kind <= LONG:
            number = self.read_number()
            number = number >> 1 ^ -(number & 1)
            self.numbers[path] = number
            if path == CODEC:
                self.codecs.add(number)
        elif kind == DOUBLE:
            self.at += 8
        elif kind == BINARY:
            length = self.read_number()
            self.at += length
        elif kind in {LIST, SET}:
            head = self._read_byte()
            count = self.read_number() if head >> 4 == 15 else head >> 4
            for _ in range(count):
                self.read_value(head & 15, path, depth + 1)
        elif kind == MAP:
            count = self.read_number()
            kinds = self._read_byte() if count else 0
            for _ in range(count):
                self.read_value(kinds >> 4, (*path, 0), depth + 1)
                self.read_value(kinds & 15, (*path, 0), depth + 1)
        elif kind == STRUCT:
            self._read_struct(path, depth)
        else:
            raise ValueError("its footer is damaged")
        if self.at > len(self.content):
            raise ValueError("its footer is cut short")

    def _read_struct(self, path: tuple[int, ...], depth: int) -> None:
        field = 0
        while head := self._read_byte():
            if head >> 4:
                field += head >> 4
            else:
                number = self.read_number()
                field = number >> 1 ^ -(number & 1)
            if head & 15 not in {TRUE, FALSE}:  # a boolean has no further bytes: its type is its value
                self.read_value(head & 15, (*path, field), depth + 1)

    def _read_byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]
