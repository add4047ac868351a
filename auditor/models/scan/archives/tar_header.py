"""One header block of a tar archive (POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU), read strictly.

Where readers differ (a size given twice, a name given twice, a number with signs in it) the
archive is refused: see CVE-2025-62518, where one reader skips what another unpacks.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final, NoReturn

from auditor.models.scan.decision import Problem
from auditor.models.scan.problem_list import ReadingStopped

BLOCK: Final = 512
# name mode uid gid size mtime checksum type link magic user group major minor prefix
_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_USTAR: Final = b"ustar\x0000"
_GNU: Final = b"ustar  \0"
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_PAX_RECORD: Final = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n]+)=")
_DECIMAL: Final = re.compile(rb"[0-9]{1,19}")
_CHECKSUM_AT: Final = slice(148, 156)
_POSITIVE, _NEGATIVE = 0x80, 0xFF
_LARGEST_OCTAL: Final = 8**11 - 1
_LARGEST: Final = 2**63 - 1
WAY_OUT: Final = "pack the archive again"


@dataclass(frozen=True)
class TarHeader:
    """What a header block says.

    Attributes:
        name: With its prefix; may be replaced by an extended header.
        kind: One character: `0` a file, `5` a folder, and so on.
        size: Bytes that follow.
        link: Target of a link.
    """

    name: bytes
    kind: str
    size: int
    link: bytes


def refuse(place: str, problem: str, rule: str = "tar-structure") -> NoReturn:
    """Stop reading where the archive is not as it should be.

    Raises:
        ReadingStopped: Always.
    """
    raise ReadingStopped(Problem(rule, problem, place.rstrip(", "), WAY_OUT))


def read_tar_header(block: bytes, place: str) -> TarHeader:
    """The header in a block that is not all zeros.

    Raises:
        ReadingStopped: It is none, or has a number that readers could take differently.
    """
    fields = _FIELDS.unpack(block)
    name, mode, user, group, size, time, checksum, kind, link, magic, _, _, *devices, prefix = (
        fields
    )
    unsigned = sum(block) - sum(block[_CHECKSUM_AT]) + 8 * ord(" ")
    if _read_number(checksum, place) != unsigned:
        refuse(place, "the checksum of a header is wrong", "bad-checksum")
    if magic not in (_USTAR, _GNU):
        refuse(place, "a header of no known kind")
    # Some readers take a number that they cannot read for the end of the archive.
    for number in (mode, user, group, *devices):
        _read_number(number, place)
    if time[0] != _NEGATIVE:  # a file from before 1970
        _read_number(time, place)
    folder, name = _until_zero(prefix), _until_zero(name)
    if folder and magic == _GNU:
        refuse(place, "a GNU header with times where others read a folder")
    return TarHeader(
        folder + b"/" + name if folder else name,
        kind.decode("latin-1").replace("\0", "0" if not name.endswith(b"/") else "5"),
        _read_number(size, place),
        _until_zero(link),
    )


def read_pax_records(content: bytes, place: str) -> dict[bytes, bytes]:
    """The records of an extended header by key.

    Raises:
        ReadingStopped: They are not `length key=value`, or a key stands twice.
    """
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        start = _PAX_RECORD.match(content, at)
        if start is None:
            refuse(place, "a broken record in an extended header")
        end = at + int(start[1])
        if content[end - 1 : end] != b"\n":
            refuse(place, "a record of an extended header has another length than it says")
        if start[2] in found:
            refuse(place, "an extended header says the same thing twice")
        found[start[2]] = content[start.end() : end - 1]
        at = end
    return found


def read_pax_size(text: bytes, header: TarHeader, place: str) -> int:
    """The size in an extended header, which may only be given for what octal cannot hold.

    Raises:
        ReadingStopped: It is no number, or differs from a size that the header holds.
    """
    if not _DECIMAL.fullmatch(text) or int(text) > _LARGEST:
        refuse(place, "an extended header with a size that is none")
    size = int(text)
    if size != header.size and (size <= _LARGEST_OCTAL or header.size):
        refuse(place, f"two sizes: {header.size} and, in its extended header, {size}")
    return size


def _read_number(field: bytes, place: str) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(field[1:], "big")
        if field[0] != _POSITIVE or value > _LARGEST:
            refuse(place, "a number in a header is negative or too large")
        return value
    match = _OCTAL.fullmatch(field)
    if match is None:
        refuse(place, "a number in a header is not octal")
    return int(match[1] or b"0", 8)


def _until_zero(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
