"""The records at the end of a zip archive: end of central directory, zip64, and the directory.

Follows PKWARE's APPNOTE 6.3.10, sections 4.3.12 to 4.3.16 and 4.5.3, more strictly than
libraries do: nothing before the first member, nothing after the end, one reading of each size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from auditor.models.scan.decision import Decision, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import ReadingStopped, join_places

_END: Final = struct.Struct("<4s4H2IH")
_END_SIGNATURE: Final = b"PK\x05\x06"
_LOCATOR: Final = struct.Struct("<4sIQI")
_LOCATOR_SIGNATURE: Final = b"PK\x06\x07"
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_END64_SIGNATURE: Final = b"PK\x06\x06"
_COMMENT_BYTES: Final = 4096
_ALL_SET: Final = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
WAY_OUT: Final = "save or pack the model again"


@dataclass(frozen=True)
class Directory:
    """Where the central directory lies and how many members it has.

    Attributes:
        begin: Its first byte; the members' bytes end there.
        end: The byte behind it.
        members: Its records.
    """

    begin: int
    end: int
    members: int


def refuse(place: str, problem: str, rule: str = "zip-structure") -> ReadingStopped:
    """What to raise where the archive is not as it should be."""
    return ReadingStopped(Problem(rule, problem, place.rstrip(", "), WAY_OUT))


def read_exactly(stream: BinaryIO, offset: int, count: int, place: str) -> bytes:
    """Bytes at an offset.

    Raises:
        ReadingStopped: There are fewer.
    """
    stream.seek(offset)
    found = stream.read(count)
    if len(found) != count:
        raise refuse(
            join_places(place, f"byte {offset}"), "the archive ends inside a record", "truncated"
        )
    return found


def read_directory(stream: BinaryIO, size: int, place: str, limits: ScanLimits) -> Directory:
    """Find the central directory.

    Args:
        stream: The archive, seekable.
        size: Its bytes.
        place: Prefix of messages.
        limits: How many members, and how much text their records may hold.

    Raises:
        ReadingStopped: There is none, or its records disagree, or it is too large.
    """
    at = _find_end(stream, size, place)
    record = read_exactly(stream, at, _END.size, place)
    _, disk, first_disk, here, members, length, begin, _ = _END.unpack(record)
    end = at
    if at >= _LOCATOR.size:
        locator = read_exactly(stream, at - _LOCATOR.size, _LOCATOR.size, place)
        if locator.startswith(_LOCATOR_SIGNATURE):
            narrow = (disk, first_disk, here, members, length, begin)
            end, wide = _read_end64(stream, at, locator, place)
            for short, long, unset in zip(narrow, wide, _ALL_SET, strict=True):
                if short not in (long, unset):
                    raise refuse(place, f"two records at its end disagree: {short} and {long}")
            disk, first_disk, here, members, length, begin = wide
    if disk or first_disk or here != members:
        raise refuse(place, "an archive of several disks")
    if begin + length != end:
        raise refuse(
            place,
            f"its directory is said to be bytes {begin} to {begin + length} and ends at {end}",
        )
    if members > limits.members:
        raise _too_much(place, "field-limit", f"{members} members; the limit is {limits.members}")
    if length > limits.text_bytes:
        raise _too_much(
            place, "size-limit", f"a directory of {length} bytes; the limit is {limits.text_bytes}"
        )
    return Directory(begin, end, members)


def _find_end(stream: BinaryIO, size: int, place: str) -> int:
    """Offset of the end record, whose comment ends where the file ends."""
    begin = max(0, size - _END.size - _COMMENT_BYTES)
    tail = read_exactly(stream, begin, size - begin, place)
    at = tail.rfind(_END_SIGNATURE)
    while at >= 0:
        if len(tail) - at >= _END.size:
            comment = _END.unpack_from(tail, at)[-1]
            if at + _END.size + comment == len(tail):
                break
            if at + _END.size + comment < len(tail):
                raise refuse(place, "bytes follow the archive's end", "trailing-data")
        at = tail.rfind(_END_SIGNATURE, 0, at + len(_END_SIGNATURE) - 1)
    if at < 0:
        raise refuse(
            place, f"no end record in the last {len(tail)} bytes: cut off, or a longer comment",
            "truncated",
        )  # fmt: skip
    if tail.find(_END_SIGNATURE, at + 1) >= 0:
        raise refuse(place, "a second end record in its comment")
    return begin + at


def _read_end64(
    stream: BinaryIO, end: int, locator: bytes, place: str
) -> tuple[int, tuple[int, ...]]:
    """Offset of the zip64 end record, and its six values in the order of the narrow ones."""
    _, disk, at, disks = _LOCATOR.unpack(locator)
    if disk or disks > 1 or at + _END64.size + _LOCATOR.size != end:
        raise refuse(place, "its zip64 records do not follow each other")
    signature, length, _, _, *values = _END64.unpack(read_exactly(stream, at, _END64.size, place))
    # The length counts from behind itself: 12 bytes less than the record.
    if signature != _END64_SIGNATURE or length != _END64.size - 12:
        raise refuse(place, "its zip64 end record is none")
    return at, tuple(values)


def _too_much(place: str, rule: str, problem: str) -> ReadingStopped:
    return ReadingStopped(
        Problem(rule, problem, place.rstrip(", "), "scan it unpacked", Decision.INCONCLUSIVE)
    )
