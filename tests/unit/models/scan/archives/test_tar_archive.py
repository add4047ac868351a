"""Tar archives: what is let through, what each rule refuses, and what the inspector is given."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Mapping

import pytest

from auditor.models.scan.archives.tar_archive import read_tar
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.limits import ScanLimits
from tests.models.recorder import Recorder

END = bytes(1024)


def read(
    archive: bytes,
    inspect: Recorder | None = None,
    limits: ScanLimits | None = None,
    *,
    depth: int = 0,
    knows_size: bool = True,
) -> Content:
    """The answer for an archive; unless given, the inspector finds nothing wrong."""
    source = ByteSource(io.BytesIO(archive).read, size=len(archive) if knows_size else None)
    return read_tar(source, "", limits or ScanLimits(), inspect or Recorder(), depth)


def rules(content: Content) -> list[tuple[str, Decision]]:
    """Rules and decisions in order; every problem has a way out."""
    assert all(problem.way_out for problem in content.problems)
    return [(problem.rule, problem.decision) for problem in content.problems]


def header(
    name: bytes = b"a",
    size: bytes = b"00000000004",
    kind: bytes = b"0",
    *,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    owner: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """A header block; its checksum is right unless it is given."""
    block = bytearray(512)
    for at, text in (
        (0, name), (100, b"0000644\0"), (108, owner), (124, size), (148, b" " * 8),
        (156, kind), (157, link), (257, magic), (345, prefix),
    ):  # fmt: skip
        block[at : at + len(text)] = text
    block[148:156] = f"{sum(block):06o}\0 ".encode() if checksum is None else checksum
    return bytes(block)


def padded(content: bytes) -> bytes:
    """Content up to a whole number of blocks."""
    return content + bytes(-len(content) % 512)


def octal(number: int) -> bytes:
    """A size as headers write it."""
    return f"{number:011o}".encode()


FILE = header() + padded(b"text")


def extended(kind: bytes, content: bytes) -> bytes:
    """An extended header."""
    return header(b"x", octal(len(content)), kind) + padded(content)


def record(key: str, value: str) -> bytes:
    """A record of a pax header, of fewer than 100 bytes."""
    length = len(f" {key}={value}\n") + 2
    return f"{length} {key}={value}\n".encode()


def written(members: Mapping[str, bytes | None], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive as tarfile writes it; None makes a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


def refused_by(archive: bytes) -> set[str]:
    """The rules that refuse an archive, the decision being REFUSED."""
    content = read(archive)
    assert content.decision is Decision.REFUSED
    return {rule for rule, _ in rules(content)}


@pytest.mark.parametrize("knows_size", [True, False])
@pytest.mark.parametrize("reads", [0, 5, 10**6])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_written_by_tarfile_are_given_with_their_bytes(
    form: int, reads: int, knows_size: bool
) -> None:
    """Names and bytes reach the inspector however much of them it reads."""
    members = {"./a": b"x" * 1000, "folder": None, "folder/b": b"", "c": b"y" * 512}
    inspect = Recorder(reads=reads)
    content = read(written(members, form), inspect, depth=1, knows_size=knows_size)
    assert (content.format, content.problems) == ("tar", ())
    assert inspect.members == {
        name: text[:reads] for name, text in members.items() if text is not None
    }
    assert set(inspect.depths.values()) == {2}
    assert content.facts == {"kind": "tar", "members": "3"}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(form: int) -> None:
    """They stand in extended headers of their own."""
    name, inspect = "é/" * 100 + "n" * 200, Recorder()
    assert read(written({name: b"text"}, form), inspect).problems == ()
    assert inspect.members == {name: b"text"}


def test_a_long_name_of_the_first_standard_has_a_prefix() -> None:
    """It is split at a slash into two fields."""
    name, inspect = "f" * 90 + "/" + "n" * 90, Recorder()
    assert read(written({name: b""}, tarfile.USTAR_FORMAT), inspect).problems == ()
    assert list(inspect.members) == [name]


def test_a_size_in_base_256_is_read() -> None:
    """GNU writes large sizes that way."""
    size = b"\x80" + (4).to_bytes(11, "big")
    inspect = Recorder()
    assert read(header(size=size) + padded(b"text") + END, inspect).problems == ()
    assert inspect.members == {"a": b"text"}


def test_a_file_from_before_1970_is_read() -> None:
    """GNU writes its time as a negative number in base 256."""
    buffer, inspect = io.BytesIO(), Recorder()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        entry = tarfile.TarInfo("a")
        entry.mtime = -5
        archive.addfile(entry)
    assert read(buffer.getvalue(), inspect).problems == ()
    assert inspect.members == {"a": b""}


@pytest.mark.parametrize("name", ["model_config.yaml", "./model_config.yaml"])
def test_an_archive_with_a_model_configuration_is_of_nemo(name: str) -> None:
    """Its members decide; the configuration is one of them."""
    inspect = Recorder()
    content = read(written({name: b"a: 1", "model_weights.ckpt": b"x"}), inspect)
    assert (content.format, content.facts["kind"]) == ("nemo", "nemo")
    assert list(inspect.members) == [name, "model_weights.ckpt"]


def test_problems_of_a_member_are_taken_over_with_its_place() -> None:
    """The member stands before the place inside it."""
    inspect = Recorder({"a": (Problem("pickle-content", "bad", "byte 3", "no"),)})
    assert read(written({"a": b"x"}), inspect).problems == (
        Problem("pickle-content", "bad", "member 'a', byte 3", "no"),
    )


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("/etc/passwd", "link-escape"),
        ("../../x", "link-escape"),
        ("b/../../../x", "link-escape"),
        ("..\\x", "link-escape"),
        ("b", "link"),
        ("./b/c", "link"),
    ],
)
def test_links_are_refused(kind: bytes, target: str, rule: str) -> None:
    """With another rule where they leave the archive."""
    assert refused_by(header(b"folder/a", b"", kind, link=target.encode()) + END) == {rule}


def test_a_symbolic_link_starts_in_its_folder_and_a_hard_link_at_the_root() -> None:
    """One step up stays inside only for the first."""
    links = {kind: header(b"folder/a", b"", kind, link=b"../b") + END for kind in (b"2", b"1")}
    assert refused_by(links[b"2"]) == {"link"}
    assert refused_by(links[b"1"]) == {"link-escape"}


@pytest.mark.parametrize("name", [b"../a", b"/a", b"a/../../b", b"C:\\a", b"a\\b", b""])
def test_names_that_leave_the_folder_are_refused(name: bytes) -> None:
    """CVE-2024-5187: whoever unpacks the archive may follow them."""
    assert refused_by(header(name) + padded(b"text") + END) == {"path-like-name"}


PAX_PATH = extended(b"x", record("path", "../a"))


@pytest.mark.parametrize(
    ("archive", "rule"),
    [
        (PAX_PATH + FILE + END, "path-like-name"),
        (extended(b"L", b"../a\0") + FILE + END, "path-like-name"),
        (header(b"\xff") + padded(b"text") + END, "path-like-name"),
        (header(b"a\x1b[0m") + padded(b"text") + END, "control-character"),
        (extended(b"L", b"a\0b\0") + FILE + END, "control-character"),
        (extended(b"L", b"n" * 5000) + FILE + END, "text-limit"),
        (FILE + FILE + END, "duplicate-name"),
        (FILE + header(b"./a") + padded(b"text") + END, "duplicate-name"),
        (header(kind=b"3", size=b"") + END, "not-a-file"),
        (header(kind=b"4", size=b"") + END, "not-a-file"),
        (header(kind=b"6", size=b"") + END, "not-a-file"),
        (header(checksum=b"000001\0 ") + END, "bad-checksum"),
        (header(magic=b"") + padded(b"text") + END, "tar-structure"),
        (header(magic=b"ustar  \0", prefix=b"p") + padded(b"text") + END, "tar-structure"),
        (header(kind=b"Z") + padded(b"text") + END, "tar-structure"),
        (header(kind=b"5") + padded(b"text") + END, "tar-structure"),
        (header(b"a/") + padded(b"text") + END, "tar-structure"),
        (header(owner=b"9") + padded(b"text") + END, "tar-structure"),
        (header(size=b"-0000000004") + END, "tar-structure"),
        (header(size=b"0o000000004") + END, "tar-structure"),
        (header(size=b"0000\x00000004") + END, "tar-structure"),
        (header(size=b"\xff" * 12) + END, "tar-structure"),
        (header(size=b"\x81" + bytes(10) + b"\4") + padded(b"text") + END, "tar-structure"),
        (header(size=b"\x80" + b"\xff" * 11) + END, "tar-structure"),
        (header(size=b"77777777777") + END, "truncated"),
        (header() + b"text" + b"x" * 508 + END, "tar-structure"),
        (FILE, "truncated"),
        (FILE + END[:512], "truncated"),
        (FILE[:-1], "truncated"),
        (FILE[:514], "truncated"),
        (header()[:100], "truncated"),
        (b"", "truncated"),
        (FILE + END + b"x", "trailing-data"),
        (FILE + END[:512] + FILE + END, "trailing-data"),
        (FILE + END + bytes(2**20), "trailing-data"),
        (extended(b"x", record("size", "5")) + FILE + END, "tar-structure"),
        (extended(b"x", record("size", "-4")) + FILE + END, "tar-structure"),
        (extended(b"x", record("size", "+4")) + FILE + END, "tar-structure"),
        (extended(b"x", record("size", "x")) + FILE + END, "tar-structure"),
        (extended(b"x", record("size", "8" * 12)) + FILE + END, "tar-structure"),
        (extended(b"x", record("size", "4")) + header(size=b"0") + padded(b"text") + END,
         "tar-structure"),
        (extended(b"x", record("size", "9" * 19)) + header(size=b"0") + END, "tar-structure"),
        (extended(b"x", record("size", "8" * 12)) + header(size=b"0") + END, "truncated"),
        (extended(b"x", record("path", "b") + record("path", "c")) + FILE + END, "tar-structure"),
        (extended(b"x", b"99 path=b\n") + FILE + END, "tar-structure"),
        (extended(b"x", b"10 path=bc") + FILE + END, "tar-structure"),
        (extended(b"x", b"path=b\n") + FILE + END, "tar-structure"),
        (extended(b"x", record("hdrcharset", "BINARY")) + FILE + END, "tar-structure"),
        (extended(b"g", record("path", "b")) + FILE + END, "tar-structure"),
        (extended(b"g", record("GNU.sparse.size", "4")) + FILE + END, "tar-structure"),
        (extended(b"L", b"b\0") * 2 + FILE + END, "tar-structure"),
        (extended(b"x", record("path", "b")) + extended(b"L", b"c\0") + FILE + END,
         "tar-structure"),
        (extended(b"L", b"b\0") + END, "truncated"),
        (header(b"x", octal(2**20 + 1), b"x") + bytes(2**21), "size-limit"),
        (header(b"x", octal(600), b"x") + b"x" * 512, "truncated"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_refused(archive: bytes, rule: str) -> None:
    """One flaw for each archive, and its rule."""
    assert refused_by(archive) == {rule}


def test_a_file_that_ends_early_is_truncated_where_the_size_is_not_known() -> None:
    """A compressed archive has no size to compare with beforehand."""
    assert rules(read(FILE[:514], knows_size=False)) == [("truncated", Decision.REFUSED)]


def test_names_in_extended_headers_replace_those_of_the_header() -> None:
    """A reader that took the short name would look at another member than it says."""
    inspect = Recorder()
    archive = extended(b"x", record("path", "b") + record("size", "4")) + FILE
    archive += extended(b"g", record("comment", "words")) + extended(b"L", b"c\0") + FILE + END
    assert read(archive, inspect).problems == ()
    assert inspect.members == {"b": b"text", "c": b"text"}


@pytest.mark.parametrize(
    "archive",
    [
        header(kind=b"S", magic=b"ustar  \0") + padded(b"text") + END,
        extended(b"x", record("GNU.sparse.major", "1")) + FILE + END,
    ],
)
def test_sparse_members_are_not_decided(archive: bytes) -> None:
    """Their bytes are not those of the file."""
    inspect = Recorder()
    assert rules(read(archive, inspect)) == [("container", Decision.INCONCLUSIVE)]
    assert inspect.members == {}


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (ScanLimits(members=1), "field-limit"),
        (ScanLimits(inflated_bytes=4), "size-limit"),
    ],
)
def test_more_than_the_limits_is_not_decided(limits: ScanLimits, rule: str) -> None:
    """What was not looked at is not called clean."""
    archive = written({"a": b"text", "b": b"text"})
    assert rules(read(archive, limits=limits)) == [(rule, Decision.INCONCLUSIVE)]


def test_headers_without_members_are_counted_too() -> None:
    """An archive of nothing but headers for all members ends at some point."""
    archive = extended(b"g", record("comment", "words")) * 9 + FILE + END
    content = read(archive, limits=ScanLimits(members=2))
    assert rules(content) == [("field-limit", Decision.INCONCLUSIVE)]


def test_an_archive_nested_too_deeply_is_not_decided() -> None:
    """The reader does not call itself without end."""
    assert rules(read(FILE + END, depth=3)) == [("nesting-limit", Decision.INCONCLUSIVE)]


def test_memory_stays_small_however_large_a_member_is() -> None:
    """What the inspector leaves is passed over in pieces."""
    size = 2**25
    blocks = [header(size=octal(size)), *[bytes(2**15)] * (size // 2**15), END]
    stream = io.BytesIO(b"".join(blocks))
    tracemalloc.start()
    content = read_tar(ByteSource(stream.read), "", ScanLimits(), Recorder(reads=10), 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert content.problems == ()
    assert peak < 2**22
