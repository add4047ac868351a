"""Zip archives written byte by byte, so that any field of any record can be wrong."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_LOCAL: Final = ("version", "flags", "method", "time", "date", "crc", "stored", "size")
_CENTRAL: Final = (
    "made", "version", "flags", "method", "time", "date", "crc", "stored", "size", "name_length",
    "extra_length", "comment_length", "disk", "internal", "external", "begin",
)  # fmt: skip
_END: Final = ("disk", "first_disk", "here", "members", "length", "begin", "comment_length")


@dataclass(frozen=True)
class Packed:
    """One member; `local` and `central` replace fields of its two headers.

    Attributes:
        name: As its bytes stand in both headers.
        content: What it inflates to.
        method: 0 stored, 8 deflated, others as they are.
        raw: Its bytes in the archive, where they are not what the method makes of the content.
        local: Fields of the local header.
        central: Fields of the directory's record.
        local_name: Another name for the local header.
        extra: Extra field of the local header.
        central_extra: Extra field of the directory's record.
        behind: Bytes behind its own, such as a data descriptor.
    """

    name: bytes
    content: bytes = b"text"
    method: int = 0
    raw: bytes | None = None
    local: Mapping[str, int] = field(default_factory=dict)
    central: Mapping[str, int] = field(default_factory=dict)
    local_name: bytes | None = None
    extra: bytes = b""
    central_extra: bytes = b""
    behind: bytes = b""


def deflate(content: bytes) -> bytes:
    """A raw deflate stream."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def pack_zip(
    members: Sequence[Packed],
    *,
    end: Mapping[str, int] | None = None,
    before: bytes = b"",
    between: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
) -> bytes:
    """An archive of members, with fields of its end record replaced.

    Args:
        members: In order.
        end: Fields of the end record.
        before: Bytes before the first member; offsets count them.
        between: Bytes between the last member and the directory.
        comment: Of the archive.
        count: Members that the end record names.
    """
    archive, directory = before, b""
    for member in members:
        begin = len(archive)
        raw = member.raw
        if raw is None:
            raw = deflate(member.content) if member.method == 8 else member.content
        fields = {
            "version": 20, "method": member.method, "crc": zlib.crc32(member.content),
            "stored": len(raw), "size": len(member.content), "begin": begin,
            "name_length": len(member.name), "extra_length": len(member.central_extra),
        }  # fmt: skip
        name = member.name if member.local_name is None else member.local_name
        archive += b"PK\x03\x04" + _packed("<5H3I", _LOCAL, {**fields, **member.local})
        archive += struct.pack("<2H", len(name), len(member.extra)) + name + member.extra
        archive += raw + member.behind
        directory += b"PK\x01\x02" + _packed("<6H3I5H2I", _CENTRAL, {**fields, **member.central})
        directory += member.name + member.central_extra
    archive += between
    number = len(members) if count is None else count
    record = {
        "here": number, "members": number, "length": len(directory), "begin": len(archive),
        "comment_length": len(comment), **(end or {}),
    }  # fmt: skip
    return archive + directory + b"PK\x05\x06" + _packed("<4H2IH", _END, record) + comment


def _packed(layout: str, names: Sequence[str], values: Mapping[str, int]) -> bytes:
    return struct.pack(layout, *(values.get(name, 0) for name in names))
