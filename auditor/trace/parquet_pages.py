"""What the pages of a Parquet file unpack to, from their own headers, before any is unpacked.

The sizes that a footer names are words of whoever wrote it, and the reader allocates by the pages.
Layout: Apache Parquet's `parquet.thrift`, in Thrift's compact protocol. Places are those that the
reader uses; a file whose places lead astray is damaged. Names, values and statistics are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, Final

MAX_RATIO: Final = 1000
"""Bytes unpacked for one in the file, and rows for one, where there are more than these:"""
MAX_UNPACKED: Final = 2**26
MAX_ROWS: Final = 1_000_000
_TAIL_BYTES: Final = 8
_FIRST_READ: Final = 256
_LARGEST_HEADER: Final = 2**24
_MAX_DEPTH: Final = 16
_TRUE, _FALSE, _BYTE, _DOUBLE, _TEXT, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS: Final = (4, 5, 6)


class DamagedTable(Exception):
    """A Parquet file that cannot be decoded; the text says why."""


@dataclass(frozen=True)
class _Page:
    """Sizes in bytes: of its header, as it lies in the file, and unpacked."""

    header: int
    packed: int
    unpacked: int
    values: int


def largest_page(raw: IO[bytes], columns: Collection[int]) -> int:
    """Bytes of the largest page of some columns, unpacked; no value in them is larger.

    Args:
        raw: The file.
        columns: Their numbers among all columns that hold values.

    Raises:
        DamagedTable: The footer or a page's header leads astray, or a page or a column unpacks to
            far more than anyone packs.
    """
    size = raw.seek(0, os.SEEK_END)
    largest = 1
    for chunks in _chunks(_footer(raw, size), columns):
        for start, length in chunks:
            if not 0 <= start <= start + length <= size:
                raise DamagedTable("a column lies outside of the file")
        values = 0
        for page in (page for chunk in chunks for page in _pages(raw, *chunk)):
            unpacked = max(page.packed, page.unpacked)
            if unpacked > max(MAX_UNPACKED, MAX_RATIO * page.packed):
                raise DamagedTable(f"a page of {page.packed} bytes would unpack to {unpacked}")
            values += page.values
            if values > max(MAX_ROWS, MAX_RATIO * size):
                raise DamagedTable(f"{size} bytes would become {values} rows or more")
            largest = max(largest, unpacked)
    return largest


def _footer(raw: IO[bytes], size: int) -> bytes:
    raw.seek(max(0, size - _TAIL_BYTES))
    tail = raw.read(_TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > size - _TAIL_BYTES:
        raise DamagedTable("no footer where its length says")
    raw.seek(size - _TAIL_BYTES - length)
    return raw.read(length)


def _chunks(footer: bytes, columns: Collection[int]) -> list[list[tuple[int, int]]]:
    """Start and length of what the file holds of each column, row group by row group."""
    found: dict[int, list[tuple[int, int]]] = {column: [] for column in columns}
    cursor = _Cursor(footer)
    for field, kind in cursor.fields():
        if (field, kind) != (4, _LIST):  # row_groups
            cursor.skip(kind)
            continue
        for _ in cursor.items(_STRUCT):
            seen = _read_row_group(cursor, found)
            if not seen.issuperset(found):
                raise DamagedTable("a row group without one of its columns")
    return list(found.values())


def _read_row_group(cursor: _Cursor, found: dict[int, list[tuple[int, int]]]) -> set[int]:
    seen = set()
    for field, kind in cursor.fields():
        if (field, kind) != (1, _LIST):  # columns
            cursor.skip(kind)
            continue
        for number, _ in enumerate(cursor.items(_STRUCT)):
            if number not in found:
                cursor.skip(_STRUCT)
                continue
            seen.add(number)
            found[number].append(_column_chunk(cursor))
    return seen


def _column_chunk(cursor: _Cursor) -> tuple[int, int]:
    numbers: dict[int, int] = {}
    for field, kind in cursor.fields():
        if (field, kind) == (3, _STRUCT):  # meta_data
            numbers = cursor.integers()
        else:
            cursor.skip(kind)
    if numbers.get(5) == 0:  # num_values: the reader opens no page, and there may be none
        return 0, 0
    length, data, dictionary = (numbers.get(field, -1) for field in (7, 9, 11))
    if length < 0 or data < 0:
        raise DamagedTable("a column without a place")
    return (dictionary if 0 < dictionary < data else data), length


def _pages(raw: IO[bytes], start: int, length: int) -> Iterator[_Page]:
    at, end = start, start + length
    while at < end:
        page = _page_at(raw, at)
        yield page
        at += page.header + page.packed


def _page_at(raw: IO[bytes], at: int) -> _Page:
    wanted = _FIRST_READ
    while True:
        raw.seek(at)
        content = raw.read(wanted)
        try:
            return _page_header(_Cursor(content))
        except _EndOfData:
            if len(content) < wanted or wanted >= _LARGEST_HEADER:
                raise
            wanted *= 16


def _page_header(cursor: _Cursor) -> _Page:
    unpacked = packed = -1
    values = 0
    for field, kind in cursor.fields():
        if field == 2 and kind in _INTEGERS:
            unpacked = cursor.integer()
        elif field == 3 and kind in _INTEGERS:
            packed = cursor.integer()
        elif field in (5, 8) and kind == _STRUCT:  # of data pages of versions 1 and 2
            values = cursor.integers().get(1, 0)
        else:
            cursor.skip(kind)
    if unpacked < 0 or packed < 0 or values < 0:
        raise DamagedTable("a page without a size")
    return _Page(cursor.at, packed, unpacked, values)


class _EndOfData(DamagedTable):
    """A structure goes on where its bytes end."""


class _Cursor:
    """A place in bytes of Thrift's compact protocol; what is read is never more than is there."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a structure; each must be read or skipped."""
        number = 0
        while head := self._byte():
            step = head >> 4
            number = number + step if step else self.integer()
            yield number, head & 15

    def items(self, kind: int) -> range:
        """A list of that type: as many as there are to read."""
        count, found = self._list_head()
        if count and found != kind:
            raise DamagedTable("a list of another type")
        return range(count)

    def integers(self) -> dict[int, int]:
        """The integers among a structure's fields."""
        found = {}
        for field, kind in self.fields():
            if kind in _INTEGERS:
                found[field] = self.integer()
            else:
                self.skip(kind)
        return found

    def integer(self) -> int:
        """A whole number of 16, 32 or 64 bits."""
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over the value of a field."""
        if depth > _MAX_DEPTH:
            raise DamagedTable("nested too deeply")
        if kind in _INTEGERS:
            self._varint()
        elif kind in (_BYTE, _DOUBLE):
            self._pass_over(1 if kind == _BYTE else 8)
        elif kind == _TEXT:
            self._pass_over(self._varint())
        elif kind in (_LIST, _SET):
            count, found = self._list_head()
            for _ in range(count):
                self._skip_item(found, depth)
        elif kind == _MAP:
            self._skip_map(depth)
        elif kind == _STRUCT:
            for _, found in self.fields():
                self.skip(found, depth + 1)
        elif kind not in (_TRUE, _FALSE):  # these two lie in the field's head
            raise DamagedTable(f"no type {kind}")

    def _skip_item(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE):
            self._byte()
        else:
            self.skip(kind, depth + 1)

    def _skip_map(self, depth: int) -> None:
        if count := self._varint():
            kinds = self._byte()
            for _ in range(count):
                self._skip_item(kinds >> 4, depth)
                self._skip_item(kinds & 15, depth)

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        count = head >> 4
        return (self._varint() if count == 15 else count), head & 15

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise DamagedTable("a number of more than 64 bits")

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise _EndOfData("cut off")
        self.at += 1
        return self.data[self.at - 1]

    def _pass_over(self, count: int) -> None:
        if count > len(self.data) - self.at:
            raise _EndOfData("cut off")
        self.at += count
