"""The members of a zip archive: each record of the directory, against its local header.

Readers of zip files differ in which of the two they believe, so both have to say the same. The
members and their headers have to cover the archive without overlap (the bomb of Fifield 2019,
"A better zip bomb", repeats one member's bytes) and without room for anything else.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from auditor.models.scan.archives.zip_records import Directory, read_directory, read_exactly, refuse
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import join_places, member_place

_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_UNSET: Final = 0xFFFFFFFF
_ZIP64: Final = 1
_UNICODE_PATH: Final = 0x7075
_UTF8: Final = 1 << 11
DESCRIPTOR: Final = 1 << 3
# How hard the compressor tried (bits 1 and 2) is of no consequence.
_SPEED: Final = 0b110
_LARGEST_PADDING: Final = 63
# Of APPNOTE 6.3.10, times ten.
_NEWEST_VERSION: Final = 63


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One member, as its two headers agree on it.

    Attributes:
        name: Its name, decoded.
        flags: General purpose bits.
        method: 0 is stored, 8 deflated.
        crc: Of its inflated bytes.
        stored: Bytes it takes in the archive.
        size: Bytes it says it inflates to.
        attributes: File type of its Unix mode, 0 if it has none.
        begin: Offset of its local header.
        data: Offset of its bytes; 0 until the local header was read.
    """

    name: str
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    attributes: int
    begin: int
    data: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether it stands for a folder."""
        return self.name.endswith("/")


def list_members(
    stream: BinaryIO, size: int, place: str, limits: ScanLimits
) -> tuple[ZipMember, ...]:
    """The members in the order of the directory.

    Args:
        stream: The archive, seekable.
        size: Its bytes.
        place: Prefix of messages.
        limits: How many members.

    Raises:
        ReadingStopped: The archive's parts disagree, overlap or leave room.
    """
    directory = read_directory(stream, size, place, limits)
    records = list(_read_records(stream, directory, place))
    ordered = sorted(range(len(records)), key=lambda number: records[number].begin)
    reached = 0
    for position, number in enumerate(ordered):
        after = ordered[position + 1] if position + 1 < len(ordered) else None
        limit = directory.begin if after is None else records[after].begin
        records[number] = _check_local(stream, records[number], limit, place)
        _check_begin(stream, records[number], reached, place)
        reached = _find_end(stream, records[number], limit, place)
    _check_padding(stream, reached, directory.begin, place)
    return tuple(records)


def _read_records(stream: BinaryIO, directory: Directory, place: str) -> Iterator[ZipMember]:
    at = directory.begin
    for number in range(directory.members):
        here = join_places(place, f"directory record {number}")
        if at + _CENTRAL.size > directory.end:
            raise refuse(here, "the directory ends before its last record")
        fields = _CENTRAL.unpack(read_exactly(stream, at, _CENTRAL.size, place))
        lengths = fields[10:13]
        at += _CENTRAL.size
        if fields[0] != b"PK\x01\x02" or at + sum(lengths) > directory.end:
            raise refuse(here, "it is no record of a directory, or too long")
        texts = read_exactly(stream, at, sum(lengths), place)
        yield _read_record(fields, texts[: lengths[0]], texts[lengths[0] : sum(lengths[:2])], here)
        at += sum(lengths)
    if at != directory.end:
        raise refuse(place, f"{directory.end - at} bytes behind the last directory record")


def _read_record(fields: tuple[int, ...], name: bytes, extra: bytes, place: str) -> ZipMember:
    _, _, needed, flags, method, _, _, crc, stored, size, _, _, _, disk, _, attributes, begin = (
        fields
    )
    extras = _read_extras(extra, place)
    if disk:
        raise refuse(place, f"it lies on disk {disk}")
    if needed & 0xFF > _NEWEST_VERSION:
        raise refuse(place, f"it needs version {needed & 0xFF} of the format")
    wide = extras.get(_ZIP64)
    if wide is not None:
        size, stored, begin = _widen((size, stored, begin), wide, place)
    text = _decode(name, flags, place)
    path = extras.get(_UNICODE_PATH)
    if path is not None and path[5:] != text.encode():
        raise refuse(place, "it has two different names")
    return ZipMember(text, flags, method, crc, stored, size, stat.S_IFMT(attributes >> 16), begin)


def _decode(name: bytes, flags: int, place: str) -> str:
    try:
        return name.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise refuse(place, "its name is not UTF-8, as it says", "path-like-name") from None


def _read_extras(extra: bytes, place: str) -> dict[int, bytes]:
    """Extra fields by id; up to three zeros at the end are padding (zipalign)."""
    found: dict[int, bytes] = {}
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if length > len(extra) - 4 or (kind in found and kind in (_ZIP64, _UNICODE_PATH)):
            raise refuse(place, "broken extra fields")
        found[kind] = extra[4 : 4 + length]
        extra = extra[4 + length :]
    if any(extra):
        raise refuse(place, "broken extra fields")
    return found


def _widen(narrow: tuple[int, int, int], wide: bytes, place: str) -> list[int]:
    """Size, stored size and offset, those taken from the zip64 field that do not fit in 32 bits."""
    values = _read_longs(wide)
    unset = [value == _UNSET for value in narrow]
    if len(wide) == 8 * sum(unset):
        return [values.pop(0) if is_unset else value
                for value, is_unset in zip(narrow, unset, strict=True)]  # fmt: skip
    # torch writes both sizes where only one needs it; an offset would then be read in two ways.
    if len(wide) != 16 or unset[2] or not all(
        is_unset or value == long
        for value, is_unset, long in zip(narrow[:2], unset[:2], values, strict=True)
    ):  # fmt: skip
        raise refuse(place, "its zip64 field has no one reading")
    return [*values, narrow[2]]


def _check_local(stream: BinaryIO, member: ZipMember, limit: int, place: str) -> ZipMember:
    """The member with the offset of its bytes, its local header being the same in all else."""
    here = member_place(place, member.name)
    if member.begin + _LOCAL.size > limit:
        raise refuse(here, f"no room for it at byte {member.begin}", "member-overlap")
    fields = _LOCAL.unpack(read_exactly(stream, member.begin, _LOCAL.size, place))
    signature, _, flags, method, _, _, crc, stored, size, name_length, extra_length = fields
    if signature != b"PK\x03\x04":
        raise refuse(here, f"no header of a member at byte {member.begin}")
    data = member.begin + _LOCAL.size + name_length + extra_length
    if data + member.stored > limit:
        raise refuse(here, f"its bytes reach past byte {limit}", "member-overlap")
    text = read_exactly(stream, member.begin + _LOCAL.size, name_length + extra_length, place)
    if _decode(text[:name_length], flags, here) != member.name:
        raise refuse(here, "its local header has another name")
    if (flags ^ member.flags) & ~_SPEED or method != member.method:
        raise refuse(here, "its local header has other flags or another method")
    wide = _read_extras(text[name_length:], here).get(_ZIP64, b"")
    if not _same_sizes(member, (crc, size, stored), wide):
        raise refuse(here, "its local header has another size or checksum")
    return replace(member, data=data)


def _same_sizes(member: ZipMember, local: tuple[int, int, int], wide: bytes) -> bool:
    """Whether checksum and sizes of the local header, with its zip64 field, are the member's."""
    crc, *shorts = local
    longs = _read_longs(wide)
    # torch fills the field before it knows the stored size, and adds the offset.
    if len(wide) % 8 or not {0, member.size, member.stored, member.begin}.issuperset(longs):
        return False
    truths = (member.size, member.stored)
    if member.flags & DESCRIPTOR:
        # The truth follows the bytes; until then zeros, or what is known.
        unset = {0, _UNSET} if wide else {0}
        return crc in (0, member.crc) and all(
            short in unset or short == truth for short, truth in zip(shorts, truths, strict=True)
        )
    return crc == member.crc and all(
        short == truth or (short == _UNSET and longs[number : number + 1] == [truth])
        for number, (short, truth) in enumerate(zip(shorts, truths, strict=True))
    )


def _read_longs(wide: bytes) -> list[int]:
    return [value for (value,) in struct.iter_unpack("<Q", wide[: len(wide) // 8 * 8])]


def _find_end(stream: BinaryIO, member: ZipMember, limit: int, place: str) -> int:
    """Offset behind the member's bytes and, where it has one, its data descriptor."""
    end = member.data + member.stored
    if not member.flags & DESCRIPTOR:
        return end
    found = read_exactly(stream, end, min(24, limit - end), place)
    values = (member.crc, member.stored, member.size)
    for layout in ("<4sIQQ", "<4sIII", "<IQQ", "<III"):
        if layout.endswith("III") and max(values) > _UNSET:
            continue
        signed = (b"PK\x07\x08", *values) if "s" in layout else values
        if found.startswith(struct.pack(layout, *signed)):
            return end + struct.calcsize(layout)
    raise refuse(member_place(place, member.name), "its data descriptor says something else")


def _check_begin(stream: BinaryIO, member: ZipMember, reached: int, place: str) -> None:
    here = member_place(place, member.name)
    if member.begin < reached:
        raise refuse(here, f"it begins before byte {reached}, inside another", "member-overlap")
    if not reached and member.begin:
        raise refuse(here, f"{member.begin} bytes before the first member")
    _check_padding(stream, reached, member.begin, here)


def _check_padding(stream: BinaryIO, begin: int, end: int, place: str) -> None:
    if end - begin > _LARGEST_PADDING or any(read_exactly(stream, begin, end - begin, place)):
        raise refuse(place, f"bytes {begin} to {end} belong to no member")
