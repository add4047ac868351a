"""Looking into a tar archive: its headers one after another, and each member as its own bytes.

Nothing is unpacked to disk. Links are refused, wherever they lead: what they name is looked at
where it stands, or is not in the archive at all (CVE-2024-5187).
"""

from __future__ import annotations

import posixpath
from typing import Final, NamedTuple, NoReturn

from auditor.models.scan.archives.kind import recognise_tar
from auditor.models.scan.archives.member_names import MemberNames, leaves_root
from auditor.models.scan.archives.tar_header import (
    BLOCK,
    TarHeader,
    read_pax_records,
    read_pax_size,
    read_tar_header,
    refuse,
)
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision, Inspector, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import (
    ProblemList,
    ReadingStopped,
    join_places,
    member_place,
    nesting_problem,
    shown,
)

_EXTENSION_BYTES: Final = 2**20
_HEADERS_PER_MEMBER: Final = 4
_LARGEST_END: Final = 2**20
_COPY: Final = "copy the file into the archive"
_SPARSE: Final = b"GNU.sparse."
_STEERING: Final = (b"path", b"linkpath", b"size", b"hdrcharset")
_UTF8: Final = (b"ISO-IR 10646 2000 UTF-8", b"UTF-8")


class _Extensions(NamedTuple):
    """What stands before a header and changes it."""

    name: bytes | None = None
    link: bytes | None = None
    records: dict[bytes, bytes] | None = None


def read_tar(
    source: ByteSource, place: str, limits: ScanLimits, inspect: Inspector, depth: int
) -> Content:
    """Judge a tar archive and what it holds.

    Args:
        source: The archive, at its beginning.
        place: Prefix of messages.
        limits: How much is looked at.
        inspect: Judges the bytes of a member; its problems are taken over.
        depth: In how many archives this one lies.
    """
    nested = nesting_problem(place, depth, limits)
    if nested is not None:
        return Content("tar", (nested,))
    reader = _TarReader(source, place, limits, inspect, depth)
    with reader.problems.ended_by_stop():
        reader.read_all()
    kind = recognise_tar(reader.files).kind.value
    return Content(
        kind, tuple(reader.problems), ("headers", f"{len(reader.files)} members"),
        {"kind": kind, "members": str(len(reader.files)), **reader.problems.facts()},
    )  # fmt: skip


class _TarReader:
    """Goes through one archive once."""

    def __init__(
        self, source: ByteSource, place: str, limits: ScanLimits, inspect: Inspector, depth: int
    ) -> None:
        self._source, self._place, self._limits = source, place, limits
        self._inspect, self._depth = inspect, depth
        self._names = MemberNames(place, limits)
        self._headers, self._members, self._left = 0, 0, limits.inflated_bytes
        self.problems = ProblemList()
        self.files: list[str] = []

    def read_all(self) -> None:
        """Look at every member, and at what follows the last."""
        while True:
            extensions, header = self._next_header()
            if header is None:
                break
            self._member(header, extensions)
        rest = self._source.read(_LARGEST_END)
        if any(rest) or self._source.peek(1):
            refuse(self._here(), "bytes that are not the end follow the end", "trailing-data")
        if len(rest) < BLOCK:
            refuse(self._here(), "only one block of zeros at its end", "truncated")

    def _next_header(self) -> tuple[_Extensions, TarHeader | None]:
        """The next header of a member with what stands before it; None at the end."""
        found, is_announced = _Extensions(), False
        while True:
            block = self._source.read(BLOCK)
            here = self._here()
            if len(block) < BLOCK:
                refuse(here, "it ends without the two blocks of zeros", "truncated")
            if not any(block):
                if is_announced:
                    refuse(here, "it ends where a member was announced", "truncated")
                return found, None
            self._headers += 1
            if self._headers > _HEADERS_PER_MEMBER * self._limits.members:
                self._too_many("field-limit", f"more than {self._headers - 1} headers")
            header = read_tar_header(block, here)
            if header.kind not in "LKxg":
                return found, header
            found, is_announced = self._extend(found, header, here), True

    def _extend(self, found: _Extensions, header: TarHeader, here: str) -> _Extensions:
        if header.size > _EXTENSION_BYTES:
            refuse(here, f"an extended header of {header.size} bytes", "size-limit")
        content = self._source.read(header.size)
        if len(content) < header.size:
            refuse(here, "it ends inside an extended header", "truncated")
        self._skip_padding(header.size)
        if header.kind == "g":
            steering = read_pax_records(content, here)
            if any(key in _STEERING or key.startswith(_SPARSE) for key in steering):
                refuse(here, "a header for all members gives them a name, size or character set")
            return found
        before = {"L": found.name, "K": found.link, "x": found.records}[header.kind]
        if before is not None:
            refuse(here, "two extended headers of one kind for one member")
        if header.kind == "x":
            return found._replace(records=read_pax_records(content, here))
        text = content.removesuffix(b"\0")
        return found._replace(name=text) if header.kind == "L" else found._replace(link=text)

    def _member(self, header: TarHeader, extensions: _Extensions) -> None:
        name, link, size, is_sparse = self._settle(header, extensions)
        place = member_place(self._place, name)
        self._members += 1
        if self._members > self._limits.members:
            self._too_many("field-limit", f"more than {self._limits.members} members")
        is_folder = header.kind == "5"
        self.problems.extend(self._names.problems_of(name, is_folder=is_folder), "")
        if header.kind == "S":
            self._too_many("container", "a sparse member, which is not unpacked here", place)
        if header.kind not in "01234567":
            refuse(place, f"a member of unknown kind {shown(header.kind)}")
        if header.kind not in "07":
            if size:
                refuse(place, f"{size} bytes for what has none")
            self._special(header.kind, name, link, place)
            return
        if name.endswith("/"):
            refuse(place, "a file that is named like a folder")
        self.files.append(name)
        self._file(name, size, place, is_sparse=is_sparse)

    def _settle(self, header: TarHeader, extensions: _Extensions) -> tuple[str, str, int, bool]:
        """Name, target, size and whether it is sparse, extended headers taken into account."""
        records, here = extensions.records or {}, self._here()
        if records.get(b"hdrcharset", _UTF8[0]) not in _UTF8:
            refuse(here, "an extended header in another character set than UTF-8")
        size = header.size
        if b"size" in records:
            size = read_pax_size(records[b"size"], header, here)
        texts = []
        for short, long, key in (
            (header.name, extensions.name, b"path"),
            (header.link, extensions.link, b"linkpath"),
        ):
            if long is not None and records.get(key, long) != long:
                refuse(here, "two extended headers give a member two names")
            text = records.get(key, short if long is None else long)
            try:
                texts.append(text.decode())
            except UnicodeDecodeError:
                refuse(here, f"a name that is not UTF-8: {text[:80]!r}", "path-like-name")
        return texts[0], texts[1], size, any(key.startswith(_SPARSE) for key in records)

    def _special(self, kind: str, name: str, link: str, place: str) -> None:
        """A link, device or pipe; a folder is nothing to look at."""
        if kind in "346":
            self.problems.add(
                Problem("not-a-file", "a device or pipe", place, "leave it out of the archive")
            )
        if kind in "12":
            base = posixpath.dirname(name) if kind == "2" else ""
            target = posixpath.normpath(posixpath.join(base, link))
            escapes = leaves_root(target) or "\\" in link or not link
            rule = "link-escape" if escapes else "link"
            self.problems.add(Problem(rule, f"a link to {shown(link)}", place, _COPY))

    def _file(self, name: str, size: int, place: str, *, is_sparse: bool) -> None:
        known = self._source.size
        if known is not None and size > known - self._source.position:
            refuse(place, f"{size} bytes, which the archive does not have", "truncated")
        if size > self._left:
            self._too_many("size-limit", f"{size} bytes; of the limit {self._left} are left", place)
        self._left -= size
        begin = self._source.position
        if is_sparse:
            self.problems.add(_undecided("container", "a sparse file, not unpacked here", place))
        else:
            content = self._inspect(_part(self._source, size), name, self._depth + 1)
            self.problems.extend(content.problems, place)
        left = begin + size - self._source.position
        if self._source.skip(left) < left:
            refuse(place, f"{size} bytes, which the archive does not have", "truncated")
        self._skip_padding(size)

    def _skip_padding(self, size: int) -> None:
        count = -size % BLOCK
        padding = self._source.read(count)
        if len(padding) < count:
            refuse(self._here(), "it ends inside a block", "truncated")
        if any(padding):
            refuse(self._here(), "bytes between two members")

    def _too_many(self, rule: str, problem: str, place: str = "") -> NoReturn:
        raise ReadingStopped(_undecided(rule, problem, place or self._here()))

    def _here(self) -> str:
        return join_places(self._place, f"byte {self._source.position}")


def _part(source: ByteSource, size: int) -> ByteSource:
    """The next bytes as a source of their own."""
    end = source.position + size
    return ByteSource(
        lambda count: source.read(min(count, end - source.position)),
        skip=lambda count: source.skip(min(count, end - source.position)),
        size=size,
    )


def _undecided(rule: str, problem: str, place: str) -> Problem:
    return Problem(rule, problem, place, "unpack it and scan the folder", Decision.INCONCLUSIVE)
