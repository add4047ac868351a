"""Reading the numbers, texts and arrays of a GGUF file in order, with little in memory.

Source: ggml-org/ggml docs/gguf.md. Version 1 has lengths of 32 bits, later ones of 64; a file of
version 3 may be big-endian, which its version number shows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NoReturn

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Decision, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import ReadingStopped, join_places

UINT32: Final = 4
BOOL: Final = 7
STRING: Final = 8
ARRAY: Final = 9
# Bytes of a value by the number of its type.
_WIDTHS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, BOOL: 1, 10: 8, 11: 8, 12: 8}
_ARRAY_DEPTH: Final = 4
_CHUNK: Final = 2**16
WAY_OUT: Final = "convert the model to GGUF again"


class GgufCursor:
    """Goes through a file once, and stops where it does not keep to the format.

    Args:
        source: The file, at its beginning.
        place: Prefix of messages.
        limits: How many values arrays may hold, and how long a text is read.

    Attributes:
        version: Of the format; decides the width of lengths.
        order: `<` or `>`.
        position: Bytes behind.
        key: The metadata key that is being read, for messages.
    """

    def __init__(self, source: ByteSource, place: str, limits: ScanLimits) -> None:
        self._source, self._place, self._limits = source, place, limits
        self._ahead, self._used = b"", 0
        self._values = 0
        self._text_left = limits.text_bytes
        self.version, self.order = 3, "<"
        self.position = 0
        self.key = ""

    def take(self, count: int) -> bytes:
        """The next bytes, which are all there."""
        if self._used + count > len(self._ahead):
            kept = self._ahead[self._used :]
            self._ahead, self._used = kept + self._source.read(max(count, _CHUNK)), 0
            if count > len(self._ahead):
                self.stop("truncated", f"it ends {count - len(self._ahead)} bytes too early")
        found = self._ahead[self._used : self._used + count]
        self._used += count
        self.position += count
        return found

    def skip(self, count: int) -> None:
        """Go past bytes, which are all there."""
        self.require(count)
        buffered = min(count, len(self._ahead) - self._used)
        self._used += buffered
        left = count - buffered
        if left and self._source.skip(left) < left:
            self.stop("truncated", f"it ends within {count} bytes that it announces")
        self.position += count

    def require(self, count: int) -> None:
        """Stop where the file, its size being known, does not have so many more bytes."""
        size = self._source.size
        if size is not None and count > size - self.position:
            self.stop("truncated", f"{count} bytes announced, {size - self.position} are left")

    def rest(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        if self._used + count > len(self._ahead):
            self._ahead, self._used = (
                self._ahead[self._used :] + self._source.read(count), 0
            )  # fmt: skip
        found = self._ahead[self._used : self._used + count]
        self._used += len(found)
        self.position += len(found)
        return found

    def take_u32(self) -> int:
        """A number of 32 bits."""
        return int(struct.unpack(f"{self.order}I", self.take(4))[0])

    def take_u64(self) -> int:
        """A number of 64 bits."""
        return int(struct.unpack(f"{self.order}Q", self.take(8))[0])

    def take_length(self) -> int:
        """A count or length, whose width is the version's."""
        return self.take_u32() if self.version == 1 else self.take_u64()

    def take_text(self, limit: int, what: str) -> bytes:
        """A text of at most so many bytes."""
        length = self.take_length()
        if length > limit:
            self.stop("text-limit", f"{what} of {length} bytes; the limit is {limit}")
        self.require(length)
        return self.take(length)

    def take_kept(self, limit: int | None = None) -> bytes:
        """A text that is kept; all of them together are limited."""
        length = self.take_length()
        if limit is not None and length > limit:
            self.stop("text-limit", f"a text of {length} bytes; the limit is {limit}")
        self.require(length)
        if length > self._text_left:
            self.undecided("text-limit", f"a text of {length} bytes; of the limit for all texts "
                           f"{self._text_left} are left")  # fmt: skip
        self._text_left -= length
        return self.take(length)

    def pass_value(self, kind: int) -> None:
        """Go past a value of a type."""
        for _ in self._texts(kind, 1, 0, keep=False):
            pass

    def take_texts(self, kind: int) -> Iterator[bytes]:
        """Every text in a value of a type; together they are limited."""
        return self._texts(kind, 1, 0, keep=True)

    def _texts(self, kind: int, count: int, depth: int, *, keep: bool) -> Iterator[bytes]:
        """Go past `count` values, giving out their texts if they are asked for."""
        if kind in _WIDTHS:
            self.require(count * _WIDTHS[kind])
            if kind == BOOL:
                self._pass_bools(count)
            else:
                self.skip(count * _WIDTHS[kind])
            return
        if kind not in (STRING, ARRAY):
            self.stop("malformed", f"unknown type of value {kind}")
        self._count(count)
        for _ in range(count):
            if kind == ARRAY:
                inner, length = self.take_u32(), self.take_length()
                if depth + 1 > _ARRAY_DEPTH:
                    self.stop("nesting-limit", f"arrays nested deeper than {_ARRAY_DEPTH}")
                yield from self._texts(inner, length, depth + 1, keep=keep)
            elif keep:
                yield self.take_kept()
            else:
                self.skip(self.take_length())

    def _pass_bools(self, count: int) -> None:
        while count:
            found = self.take(min(count, _CHUNK))
            count -= len(found)
            if max(found) > 1:
                self.stop("malformed", f"a truth value of {max(found)}")

    def _count(self, count: int) -> None:
        """Count texts and arrays, which cost time each, before they are read."""
        self.require(count * (4 if self.version == 1 else 8))
        self._values += count
        if self._values > self._limits.gguf_values:
            limit = self._limits.gguf_values
            self.undecided("field-limit", f"{self._values} values in arrays; the limit is {limit}")

    def stop(self, rule: str, problem: str, way_out: str = WAY_OUT) -> NoReturn:
        """End the reading: the file is not as it should be."""
        raise ReadingStopped(Problem(rule, problem, self._here(), way_out))

    def undecided(self, rule: str, problem: str) -> NoReturn:
        """End the reading: there is more than is looked at."""
        raise ReadingStopped(
            Problem(rule, problem, self._here(), "convert it with less in its metadata",
                    Decision.INCONCLUSIVE)
        )  # fmt: skip

    def _here(self) -> str:
        place = self.key or f"byte {self.position}"
        return join_places(self._place, place)
