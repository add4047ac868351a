"""The bytes of one member of a zip archive, inflated as they are asked for, then checked."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import BinaryIO, Final

from auditor.models.scan.archives.inflating import (
    BROKEN,
    CODECS,
    Decompressor,
    raw_deflate,
    raw_lzma,
)
from auditor.models.scan.archives.zip_listing import ZipMember
from auditor.models.scan.archives.zip_records import WAY_OUT
from auditor.models.scan.decision import Problem

STORED: Final = 0
_LZMA: Final = 14
_MAKERS: Final[Mapping[int, Callable[[], Decompressor]]] = MappingProxyType({
    8: raw_deflate, 12: CODECS["bz2"].make, 93: CODECS["zstd"].make,
})  # fmt: skip
METHODS: Final = frozenset({STORED, _LZMA, *_MAKERS})
"""Ways of compressing that are unpacked here (APPNOTE 6.3.10, 4.4.5)."""
_LZMA_HEADER: Final = struct.Struct("<2xH5s")
"""Version of the program that wrote it, length of the properties, properties (APPNOTE 5.8.8)."""
_CHUNK: Final = 2**18


class MemberStream:
    """Reads a member from its beginning, never more than it says it has.

    Args:
        stream: The archive, seekable; others may move it between reads.
        member: A member of one of `METHODS`.
        place: Of the member, for messages.

    Attributes:
        problem: What was wrong with its bytes, once they were read so far.
    """

    def __init__(self, stream: BinaryIO, member: ZipMember, place: str) -> None:
        self._stream, self._member, self._place = stream, member, place
        self._at, self._end = member.data, member.data + member.stored
        self._crc, self._given = 0, 0
        self.problem: Problem | None = None
        self._inflater = self._begin()

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the member's end or where its bytes are broken."""
        count = min(count, self._member.size - self._given, _CHUNK)
        if count <= 0 or self.problem is not None:
            return b""
        found = self._next(count)
        self._crc = zlib.crc32(found, self._crc)
        self._given += len(found)
        return found

    def finish(self) -> Problem | None:
        """Read what is left; returns what was wrong with size, checksum or compression."""
        while self.read(_CHUNK):
            pass
        if self.problem is None and self._given != self._member.size:
            self._stop("data-length", f"{self._given} bytes, not {self._member.size} as it says")
        if self.problem is None and (self._next(1) or not self._is_at_end()):
            self._stop("data-length", f"more than the {self._member.size} bytes that it says")
        if self.problem is None and self._crc != self._member.crc:
            self._stop("bad-checksum", f"checksum {self._crc:08x}, not {self._member.crc:08x}")
        return self.problem

    def _begin(self) -> Decompressor | None:
        """A decompressor; None for bytes that are stored as they are, or with a problem."""
        if self._member.method != _LZMA:
            make = _MAKERS.get(self._member.method)
            return None if make is None else make()
        header = self._raw(_LZMA_HEADER.size)
        try:
            length, properties = _LZMA_HEADER.unpack(header)
            return raw_lzma(properties[:length])
        except (struct.error, ValueError) as error:
            self._stop("malformed", f"broken compression: {error}")
        return None

    def _next(self, count: int) -> bytes:
        if self._inflater is None:
            return self._raw(count)
        while self.problem is None and not self._inflater.eof:
            waits = self._inflater.needs_input
            packed = self._raw(_CHUNK) if waits else b""
            try:
                found = self._inflater.decompress(packed, count)
            except BROKEN as error:
                self._stop("malformed", f"broken compression: {error}")
                break
            if found:
                return found
            if waits and not packed:
                break
        return b""

    def _raw(self, count: int) -> bytes:
        self._stream.seek(self._at)
        found = self._stream.read(min(count, self._end - self._at))
        self._at += len(found)
        return found

    def _is_at_end(self) -> bool:
        """Whether the compressed bytes end where the member ends."""
        if self._inflater is None:
            return self._at == self._end
        # LZMA need not mark its end.
        is_over = self._inflater.eof or self._member.method == _LZMA
        return is_over and not self._inflater.unused_data and self._at == self._end

    def _stop(self, rule: str, problem: str) -> None:
        self.problem = Problem(rule, problem, self._place, WAY_OUT)
