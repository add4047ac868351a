"""The stream of a certificate: magic, records with a CRC each, and a final SHA-256.

A record is `u32 length, u8 kind, payload, u32 crc32(kind + payload)`, little-endian. See
`specs/certificate.md`. Reading keeps one record in memory.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from auditor.errors import CertificateRejected

MAGIC = b"AUDCERT2"
HEADER, GROUP, BATCH, END = b"H", b"G", b"B", b"Z"
MAX_RECORD = 1 << 28
_HEAD = struct.Struct("<Ic")
_CRC = struct.Struct("<I")


def frame(kind: bytes, payload: bytes) -> bytes:
    """A record as bytes."""
    crc = _CRC.pack(zlib.crc32(kind + payload))
    return _HEAD.pack(len(payload), kind) + payload + crc


def read_records(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of every record but the last, which is checked here.

    Raises:
        CertificateRejected: Cut off, damaged, or with something after its end.
    """
    digest = hashlib.sha256()

    def take(count: int) -> bytes:
        content = stream.read(count)
        if len(content) != count:
            raise CertificateRejected("the file ends too early")
        return content

    magic = take(len(MAGIC))
    if magic != MAGIC:
        raise CertificateRejected("not a certificate of this version")
    digest.update(magic)
    while True:
        head = take(_HEAD.size)
        length, kind = _HEAD.unpack(head)
        if length > MAX_RECORD:
            raise CertificateRejected(f"a record of {length} bytes")
        payload = take(length)
        crc = take(_CRC.size)
        if zlib.crc32(kind + payload) != _CRC.unpack(crc)[0]:
            raise CertificateRejected("a record is damaged (CRC)")
        if kind == END:
            break
        digest.update(head + payload + crc)
        yield kind, payload
    if payload != digest.digest():
        raise CertificateRejected("the file is damaged (SHA-256)")
    if stream.read(1):
        raise CertificateRejected("bytes after the end")


class Payload:
    """A payload read from its start; `end` demands that nothing is left."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def _take(self, kind: str, count: int) -> NDArray[np.generic]:
        size = np.dtype(kind).itemsize * count
        part = self._content[self._place : self._place + size]
        if len(part) != size:
            raise CertificateRejected("a record is too short")
        self._place += size
        return np.frombuffer(part, dtype=f"<{kind}")

    def array(self, kind: str, count: int) -> NDArray[np.int64]:
        """The next `count` little-endian integers of a NumPy kind such as `u2`."""
        return self._take(kind, count).astype(np.int64)

    def below(self, kind: str, count: int, end: int) -> NDArray[np.int64]:
        """The next integers, all of which must be less than `end`."""
        values = self.array(kind, count)
        if count and values.max() >= end:
            raise CertificateRejected("an index is out of range")
        return values

    def floats(self, kind: str, count: int) -> NDArray[np.float64]:
        """The next floats, as float64; all must be finite."""
        values = self._take(kind, count).astype(np.float64)
        if not np.isfinite(values).all():
            raise CertificateRejected("a number is not finite")
        return values

    def number(self, kind: str = "u4") -> int:
        """The next integer."""
        return int(self.array(kind, 1)[0])

    def end(self) -> None:
        """Raise unless everything was read."""
        if self._place != len(self._content):
            raise CertificateRejected("a record is too long")
