"""The codecs of a Parquet file, read from its footer before Arrow reads the file.

Arrow ends the process at a codec that it does not know, and unpacks the others without a limit. The footer is in
Thrift's compact protocol; everything but the codecs is skipped.
"""

from __future__ import annotations

import os
from typing import IO

MAGIC = b"PAR1"
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


class _Reader:
    """Reads the footer's bytes from start to end and collects the codecs."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0
        self.codecs: set[int] = set()

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
            if path == CODEC:
                self.codecs.add(number >> 1 ^ -(number & 1))
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
