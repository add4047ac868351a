"""Decompressing a stream bit by bit, so that memory stays small however much comes out.

One interface for the decompressors of the standard library and zstd (RFC 1950 zlib, RFC 1952
gzip, RFC 8878 zstd; bzip2; xz and lzma of liblzma). Members that follow each other are one stream.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.limits import ScanLimits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_TAKEN: Final = 2**14
_GIVEN: Final = 2**16
MEMORY: Final = 2**27
"""Bytes a decompressor may keep to look back into: `xz -9` needs half of it, `zstd -22` all."""
_SKIP: Final = 2**30


class Stopped(StrEnum):
    """Why no more comes out of a stream."""

    ENDED = "ended"
    TRUNCATED = "truncated"
    BROKEN = "broken"
    MEMORY = "memory"
    LIMIT = "limit"
    RATIO = "ratio"
    MEMBERS = "members"


class Decompressor(Protocol):
    """What bz2, lzma and zstd have in common."""

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""

    @property
    def unused_data(self) -> bytes:
        """What was given and lies behind the member."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing comes out before more is given."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Give bytes and take what comes out, up to `max_length`."""


class _Zlib:
    """The decompressor of zlib, with the interface of the others."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits=wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        found = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # With a full answer there may be more to come though all input was taken.
        self.needs_input = not self._inner.unconsumed_tail and len(found) < max_length
        return found


class _Codec(NamedTuple):
    """A way of compressing.

    Attributes:
        make: Begins a member.
        magics: What another member begins with; none if there can be only one.
    """

    make: Callable[[], Decompressor]
    magics: tuple[bytes, ...] = ()


def _zstd() -> Decompressor:
    limit = {int(zstd.DecompressionParameter.window_log_max): MEMORY.bit_length() - 1}
    return zstd.ZstdDecompressor(options=limit)


_SKIPPABLE: Final = tuple(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))
CODECS: Final[Mapping[str, _Codec]] = MappingProxyType({
    "gzip": _Codec(lambda: _Zlib(16 + zlib.MAX_WBITS), (b"\x1f\x8b",)),
    "zlib": _Codec(lambda: _Zlib(zlib.MAX_WBITS)),
    "bz2": _Codec(bz2.BZ2Decompressor, (b"BZh",)),
    "xz": _Codec(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY),
                 (b"\xfd7zXZ\x00",)),
    "lzma": _Codec(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MEMORY)),
    "zstd": _Codec(_zstd, (b"\x28\xb5\x2f\xfd", *_SKIPPABLE)),
})  # fmt: skip
"""What is unpacked here, by name."""
_LONGEST_MAGIC: Final = 6
_MOST_PROPERTIES: Final = 9 * 5 * 5
BROKEN: Final = (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, EOFError, ValueError)
_TOO_MUCHMEMORY: Final = ("memory usage limit", "too much memory")


def raw_deflate() -> Decompressor:
    """A decompressor of deflate (RFC 1951) without a header."""
    return _Zlib(-zlib.MAX_WBITS)


def raw_lzma(properties: bytes) -> Decompressor:
    """A decompressor of LZMA by the five bytes of its properties.

    Source: "LZMA Specification" of the LZMA SDK.

    Raises:
        ValueError: They are no such properties, or ask for more than `MEMORY`.
    """
    if len(properties) != 5 or properties[0] >= _MOST_PROPERTIES:
        raise ValueError("no properties of LZMA")
    packed, dictionary = properties[0], int.from_bytes(properties[1:], "little")
    if dictionary > MEMORY:
        raise ValueError(f"it asks for {dictionary} bytes to look back into; {MEMORY} are allowed")
    rest, lc = divmod(packed, 9)
    chain = {"id": lzma.FILTER_LZMA1, "lc": lc, "lp": rest % 5, "pb": rest // 5,
             "dict_size": max(dictionary, 4096)}  # fmt: skip
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[chain])
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from None


class InflatingReader:
    """The decompressed bytes of a stream, read from the front.

    Args:
        source: The compressed stream at its start.
        codec: A key of `CODECS`.
        limits: How many bytes may come out, of how many members, and how many for one that
            went in.
        stored: Bytes of the whole stream where they are known for sure; else those read so far
            count as what went in.

    Attributes:
        stopped: Why no more comes out, or None while there may be more.
        reason: What the decompressor says about a broken stream.
        given: Bytes that came out.
        members: Members that were begun.
        behind: Bytes behind the last member that are none, and not all zero.
    """

    def __init__(
        self, source: ByteSource, codec: str, limits: ScanLimits, stored: int | None = None
    ) -> None:
        self._source, self._codec, self._start = source, CODECS[codec], source.position
        self._limits, self._whole = limits, stored
        self._member = self._codec.make()
        self._taken, self._ready = b"", b""
        self.stopped: Stopped | None = None
        self.reason = ""
        self.given = self.behind = 0
        self.members = 1

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none once the stream has stopped.

        Raises:
            OSError: The compressed stream cannot be read.
        """
        while not self._ready and self.stopped is None:
            self._step()
        found, self._ready = self._ready[:count], self._ready[count:]
        return found

    def drain(self) -> None:
        """Read on to the end, so that all of the stream was looked at."""
        self._ready = b""
        while self.stopped is None:
            self._step()
            self._ready = b""

    def _step(self) -> None:
        """Give the decompressor some bytes and take some."""
        if self._member.eof:
            self._begin_member()
            return
        if self._member.needs_input and not self._taken:
            self._taken = self._source.read(_TAKEN)
        ended = self._member.needs_input and not self._taken
        try:
            found = self._member.decompress(self._taken, _GIVEN)
        except MemoryError:
            self.stopped = Stopped.MEMORY
            return
        except BROKEN as error:
            self.reason = str(error)
            is_memory = any(text in self.reason.lower() for text in _TOO_MUCHMEMORY)
            self.stopped = Stopped.MEMORY if is_memory else Stopped.BROKEN
            return
        self._taken = b""
        self.given += len(found)
        self._ready = found
        if ended and not found and not self._member.eof:
            self.stopped = Stopped.TRUNCATED
        elif self.given > self._limits.inflated_bytes:
            self.stopped, self._ready = Stopped.LIMIT, b""
        elif self.given > max(self._limits.ratio_free_bytes, self._limits.ratio * self._stored()):
            self.stopped, self._ready = Stopped.RATIO, b""

    def _stored(self) -> int:
        return self._source.position - self._start if self._whole is None else self._whole

    def _begin_member(self) -> None:
        """Go on with the next member, past zeros, or stop."""
        rest, start = self._member.unused_data, self._source.position
        start -= len(rest)
        while len(rest := rest.lstrip(b"\0")) < _LONGEST_MAGIC:
            more = self._source.read(_TAKEN)
            if not more:
                break
            rest += more
        if rest.startswith(self._codec.magics):
            if self.members >= self._limits.members:
                self.stopped = Stopped.MEMBERS
                return
            self._member, self._taken = self._codec.make(), rest
            self.members += 1
            return
        self.stopped = Stopped.ENDED
        if rest:
            while self._source.skip(_SKIP) > 0:
                pass
            self.behind = self._source.position - start
