"""Looking into a zip archive: its structure, its kind, and each member as its own bytes.

Nothing is unpacked to disk, and no library for archives is used: what is checked is what the
directory and the local headers both say, and every checksum is compared.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable
from typing import BinaryIO, Final

from auditor.models.limits import FolderLimits
from auditor.models.scan.archives.keras_config import keras_problems
from auditor.models.scan.archives.kind import (
    NOTE_BYTES,
    ArchiveKind,
    Recognised,
    recognise_zip,
)
from auditor.models.scan.archives.member_names import MemberNames
from auditor.models.scan.archives.zip_listing import ZipMember, list_members
from auditor.models.scan.archives.zip_records import WAY_OUT
from auditor.models.scan.archives.zip_stream import METHODS, STORED, MemberStream
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision, Inspector, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import (
    ProblemList,
    ReadingStopped,
    member_place,
    nesting_problem,
)

# Encrypted, strongly encrypted, and local headers masked by it.
_ENCRYPTED: Final = 1 << 0 | 1 << 6 | 1 << 13
_PATCHED: Final = 1 << 5
_UNPACK: Final = "unpack it and scan the folder"


def read_zip(
    stream: BinaryIO, size: int, place: str, limits: ScanLimits, inspect: Inspector, depth: int
) -> Content:
    """Judge a zip archive and what it holds.

    Args:
        stream: The archive, seekable.
        size: Its bytes.
        place: Prefix of messages.
        limits: How much is looked at.
        inspect: Judges the bytes of a member; its problems are taken over.
        depth: In how many archives this one lies.
    """
    problems = ProblemList()
    nested = nesting_problem(place, depth, limits)
    if nested is not None:
        return Content("zip", (nested,))
    try:
        members = list_members(stream, size, place, limits)
    except ReadingStopped as stop:
        return Content("zip", (stop.problem,), ("directory",))
    recognised = recognise_zip([member.name for member in members if not member.is_folder])
    if recognised.problem is not None:
        problems.extend([recognised.problem], place)
    names = MemberNames(place, limits)
    for member in members:
        problems.extend(names.problems_of(member.name, is_folder=member.is_folder), "")
        problems.extend(_header_problems(member, member_place(place, member.name), limits), "")
    bomb = _ratio_problem(members, place, limits)
    if bomb is not None:
        if all(problem.rule != bomb.rule for problem in problems):
            problems.add(bomb)
        return Content(recognised.kind.value, tuple(problems), ("directory",))
    reader = _Members(stream, place, limits, inspect, depth, recognised, problems)
    for member in members:
        reader.look_at(member)
    facts = {"kind": recognised.kind.value, "members": str(len(members)), **reader.facts()}
    return Content(
        recognised.kind.value, tuple(problems), ("directory", f"{reader.seen} members"), facts
    )


def _header_problems(member: ZipMember, place: str, limits: ScanLimits) -> Iterable[Problem]:
    """What is wrong with a member by its headers alone."""
    if member.flags & _ENCRYPTED:
        yield Problem("encrypted", "it is encrypted", place, "give the archive without a password")
    if member.attributes == stat.S_IFLNK:
        yield Problem("link-escape", "a symbolic link", place, "copy the file into the archive")
    elif member.attributes not in (0, stat.S_IFREG, stat.S_IFDIR):
        yield Problem("not-a-file", "a device or pipe", place, "leave it out of the archive")
    if member.is_folder and member.size:
        yield Problem("zip-structure", f"a folder of {member.size} bytes", place, WAY_OUT)
    if member.method == STORED and member.stored != member.size:
        yield Problem(
            "data-length", f"{member.size} bytes stored as {member.stored}", place, WAY_OUT
        )
    ratio = _ratio_problem([member], place, limits)
    if ratio is not None:
        yield ratio


def _ratio_problem(
    members: Collection[ZipMember], place: str, limits: ScanLimits
) -> Problem | None:
    """Whether members inflate to more than could be meant."""
    size, stored = sum(each.size for each in members), sum(each.stored for each in members)
    if size <= max(limits.ratio_free_bytes, limits.ratio * stored):
        return None
    return Problem(
        "inflation-ratio",
        f"{stored} bytes that inflate to {size}; the limit is {limits.ratio} times as many",
        place.rstrip(", "),
        "store it without compression",
    )


class _Members:
    """Goes through the members of one archive and remembers how much of it was inflated."""

    def __init__(
        self,
        stream: BinaryIO,
        place: str,
        limits: ScanLimits,
        inspect: Inspector,
        depth: int,
        recognised: Recognised,
        problems: ProblemList,
    ) -> None:
        self._stream, self._place, self._limits = stream, place, limits
        self._inspect, self._depth = inspect, depth
        self._recognised, self._problems = recognised, problems
        self._left = limits.inflated_bytes
        self._undecided = 0
        self.seen = 0

    def look_at(self, member: ZipMember) -> None:
        """Judge one member, and compare its size and checksum with its bytes."""
        place = member_place(self._place, member.name)
        reason = self._why_not(member)
        if reason is not None:
            self._problems.add(
                Problem(*reason, place=place, way_out=_UNPACK, decision=Decision.INCONCLUSIVE)
            )
        if reason is not None or any(_header_problems(member, place, self._limits)):
            return
        self._left -= member.size
        stream = MemberStream(self._stream, member, place)
        if not member.is_folder:
            self._judge(ByteSource(stream.read, size=member.size), member, place)
        problem = stream.finish()
        if problem is not None:
            self._problems.add(problem)
        self.seen += 1

    def facts(self) -> dict[str, str]:
        """Counts in words, those that are zero left out."""
        undecided = {"undecided_members": str(self._undecided)} if self._undecided else {}
        return {**self._problems.facts(), **undecided}

    def _why_not(self, member: ZipMember) -> tuple[str, str] | None:
        """Rule and reason for which a member cannot be read."""
        if member.method not in METHODS or member.flags & _PATCHED:
            return "container", f"compression method {member.method}, not unpacked here"
        if member.size > self._left:
            return (
                "size-limit",
                f"{member.size} bytes; of the limit for the archive {self._left} are left",
            )
        return None

    def _judge(self, source: ByteSource, member: ZipMember, place: str) -> None:
        recognised, name = self._recognised, member.name
        if recognised.is_storage(name) or recognised.is_note(name, source.peek(NOTE_BYTES + 1)):
            return
        if recognised.kind is ArchiveKind.KERAS and name == "config.json":
            self._read_keras(source, place)
            return
        content = self._inspect(source, name, self._depth + 1)
        found = content.problems
        if recognised.problem is not None:
            # The archive is refused as it is; what was merely not recognised adds nothing.
            found = tuple(each for each in found if each.decision is Decision.REFUSED)
            self._undecided += content.decision is Decision.INCONCLUSIVE
        self._problems.extend(found, place)

    def _read_keras(self, source: ByteSource, place: str) -> None:
        content = source.read(self._limits.text_bytes + 1)
        if len(content) > self._limits.text_bytes:
            self._undecided += 1
            return
        self._problems.extend(keras_problems(content, FolderLimits()), place)
