"""Laws of the readers of archives, GGUF and HDF5: they always answer, and never alone.

Whatever the bytes, a reader returns an answer. What it accepts, the library that will open it
reads in the same way: the same names, the same bytes.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.models.scan.archives.tar_archive import read_tar
from auditor.models.scan.archives.zip_archive import read_zip
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision
from auditor.models.scan.formats.gguf_header import read_gguf
from auditor.models.scan.formats.hdf5_file import read_hdf5
from auditor.models.scan.limits import ScanLimits
from tests.models.gguf_bytes import Described, GgufBytes, Value
from tests.models.recorder import Recorder
from tests.models.zip_bytes import Packed, pack_zip
from tests.unit.models.scan.archives.test_tar_archive import extended, header, padded, record

LIMITS: Final = ScanLimits(
    members=50, inflated_bytes=2**20, text_bytes=2**16, key_values=50, tensors=50, gguf_values=500
)
FORMS: Final = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


class Pipe(io.RawIOBase):
    """Makes zipfile write data descriptors, since it cannot go back."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, part: object) -> int:
        content = bytes(part)  # type: ignore[call-overload]
        self.content += content
        return len(content)


def write_zip(members: dict[str, bytes], method: int, *, is_pipe: bool) -> bytes:
    """An archive as zipfile writes it."""
    buffer, pipe = io.BytesIO(), Pipe()
    with zipfile.ZipFile(pipe if is_pipe else buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return pipe.content if is_pipe else buffer.getvalue()


def write_tar(members: dict[str, bytes], form: int) -> bytes:
    """An archive as tarfile writes it, without the zeros that fill its last record."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        end = archive.offset
    return buffer.getvalue()[: end + 1024]


def write_gguf(version: int, order: str) -> bytes:
    """A small file of the format."""
    form = GgufBytes(version, order)
    values = [
        Value("general.alignment", 4, form.number(8)),
        Value("tokenizer.chat_template", 8, form.text("{{ a }}")),
        Value("a.b", 9, form.array(8, [form.text("x"), form.text("yz")])),
        Value("a.c", 9, form.array(9, [form.array(7, [b"\1", b"\0"])])),
    ]
    tensors = [Described("a", [3]), Described("b", [32, 2], 8, 16)]
    return form.file(values, tensors, bytes(16 + 68), alignment=8)


def open_zip(content: bytes, inspect: Recorder) -> Content:
    """The answer for a zip archive."""
    return read_zip(io.BytesIO(content), len(content), "", LIMITS, inspect, 0)


def open_tar(content: bytes, inspect: Recorder) -> Content:
    """The answer for a tar archive."""
    return read_tar(ByteSource(io.BytesIO(content).read, size=len(content)), "", LIMITS, inspect, 0)


def open_piped_tar(content: bytes, inspect: Recorder) -> Content:
    """The answer for a tar archive whose size is not known, as inside a compressed file."""
    return read_tar(ByteSource(io.BytesIO(content).read), "", LIMITS, inspect, 0)


def open_gguf(content: bytes, inspect: Recorder) -> Content:
    """The answer for a GGUF file."""
    source = ByteSource(io.BytesIO(content).read, size=len(content))
    return read_gguf(source, "", LIMITS).content


def open_piped_gguf(content: bytes, inspect: Recorder) -> Content:
    """The answer for a GGUF file whose size is not known."""
    return read_gguf(ByteSource(io.BytesIO(content).read), "", LIMITS).content


def open_hdf5(content: bytes, inspect: Recorder) -> Content:
    """The answer for an HDF5 file."""
    return read_hdf5(ByteSource(io.BytesIO(content).read), "", LIMITS)


Opener = Callable[[bytes, Recorder], Content]
MEMBERS: Final = {"a": b"text " * 9, "folder/b": b"", "é": b"\0\1\2"}
ZIPS: Final = [
    write_zip(MEMBERS, zipfile.ZIP_STORED, is_pipe=False),
    write_zip(MEMBERS, zipfile.ZIP_DEFLATED, is_pipe=False),
    write_zip(MEMBERS, zipfile.ZIP_DEFLATED, is_pipe=True),
]
TARS: Final = [write_tar({**MEMBERS, "n" * 120: b"long"}, form) for form in FORMS[1:]]
GGUFS: Final = [write_gguf(version, order) for version, order in [(1, "<"), (2, "<"), (3, ">")]]
HDF5: Final = b'\x89HDF\r\n\x1a\n\0\0\0{"class_name": "Lambda"}'
READERS: Final[list[tuple[Opener, list[bytes]]]] = [
    (open_zip, ZIPS),
    (open_tar, TARS),
    (open_piped_tar, TARS),
    (open_gguf, GGUFS),
    (open_piped_gguf, GGUFS),
    (open_hdf5, [HDF5]),
]
NAMES: Final = [opener.__name__ for opener, _ in READERS]

changes = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 3), st.binary(min_size=1, max_size=9)),
    min_size=1,
    max_size=4,
)


def change(content: bytes, how: list[tuple[int, int, bytes]]) -> bytes:
    """Overwrite, insert, cut out or repeat bytes at some places."""
    for place, kind, new in how:
        at = place % (len(content) + 1)
        behind = {0: at + len(new), 1: at, 2: at + 7 * len(new), 3: max(0, at - 30)}[kind]
        content = content[:at] + (new if kind < 2 else b"") + content[behind:]
    return content


def answers(content: Content) -> bool:
    """Whether an answer has what every answer has."""
    decided = content.decision is Decision.ACCEPTED or bool(content.problems)
    return decided and all(
        each.rule and each.way_out and "\n" not in each.problem + each.place
        for each in content.problems
    )


@pytest.mark.parametrize(("opener", "samples"), READERS, ids=NAMES)
def test_the_samples_are_accepted_but_for_hdf5(opener: Opener, samples: list[bytes]) -> None:
    """The laws below start from files that have no flaw."""
    rules = {each.rule for sample in samples for each in opener(sample, Recorder()).problems}
    assert rules == ({"hdf5"} if opener is open_hdf5 else set())


@pytest.mark.parametrize(("opener", "samples"), READERS, ids=NAMES)
@given(content=st.binary(max_size=1200), kept=st.integers(0, 60))
def test_random_bytes_always_get_an_answer(
    opener: Opener, samples: list[bytes], content: bytes, kept: int
) -> None:
    """Behind nothing, or behind the beginning of a sound file."""
    for sample in samples:
        assert answers(opener(sample[:kept] + content, Recorder()))


@pytest.mark.parametrize(("opener", "samples"), READERS, ids=NAMES)
@given(how=changes, which=st.integers(0, 2))
def test_changed_files_always_get_an_answer(
    opener: Opener, samples: list[bytes], how: list[tuple[int, int, bytes]], which: int
) -> None:
    """Whatever is overwritten, inserted or cut out."""
    assert answers(opener(change(samples[which % len(samples)], how), Recorder()))


def agrees_with_zipfile(content: bytes) -> None:
    """If an archive is accepted, zipfile finds the same members with the same bytes."""
    inspect = Recorder()
    if open_zip(content, inspect).decision is Decision.ACCEPTED:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            files = {name: archive.read(name) for name in names if name[-1] != "/"}
        assert len(set(names)) == len(names)
        assert files == inspect.members


def agrees_with_tarfile(content: bytes) -> None:
    """If an archive is accepted, tarfile finds the same members with the same bytes."""
    inspect = Recorder()
    if open_tar(content, inspect).decision is Decision.ACCEPTED:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            files = {
                entry.name: part.read()
                for entry in archive
                if (part := archive.extractfile(entry)) is not None
            }
        assert files == inspect.members


@pytest.mark.parametrize("sample", ZIPS)
def test_zipfile_agrees_after_every_flipped_bit(sample: bytes) -> None:
    """One bit at a time, in every byte of the archive."""
    for at in range(len(sample)):
        for bit in range(8):
            flipped = bytes([sample[at] ^ 1 << bit])
            agrees_with_zipfile(sample[:at] + flipped + sample[at + 1 :])


@given(how=changes, which=st.integers(0, len(ZIPS) - 1))
def test_zipfile_agrees_after_any_change(how: list[tuple[int, int, bytes]], which: int) -> None:
    """A member that only one of two readers sees could be what nobody looked at."""
    agrees_with_zipfile(change(ZIPS[which], how))


FIELDS: Final = ["version", "flags", "method", "time", "crc", "stored", "size"]
numbers = st.one_of(st.integers(0, 70), st.sampled_from([0x800, 0x808, 0xFFFF]))
fields = st.dictionaries(st.sampled_from(FIELDS), numbers, max_size=2)


@given(
    local=fields,
    central=fields,
    extra=st.binary(max_size=24),
    central_extra=st.binary(max_size=24),
    content=st.binary(max_size=20),
    behind=st.binary(max_size=24),
    is_same=st.booleans(),
    end=st.dictionaries(
        st.sampled_from(["here", "members", "length", "begin"]), numbers, max_size=1
    ),
    comment=st.binary(max_size=30),
)
def test_zipfile_agrees_whatever_the_records_say(
    local: dict[str, int],
    central: dict[str, int],
    extra: bytes,
    central_extra: bytes,
    content: bytes,
    behind: bytes,
    is_same: bool,
    end: dict[str, int],
    comment: bytes,
) -> None:
    """Fields of both headers and of the end record, alone and together."""
    first = Packed(
        b"a", content, 0, local=central if is_same else local, central=central, extra=extra,
        central_extra=central_extra, behind=behind,
    )  # fmt: skip
    agrees_with_zipfile(pack_zip([first, Packed(b"b")], end=end, comment=comment))


@pytest.mark.parametrize("sample", TARS)
def test_tarfile_agrees_after_a_flipped_bit_in_every_byte_of_a_header(sample: bytes) -> None:
    """The checksum is put right again, so that the other fields are looked at."""
    for begin in [
        at for at in range(0, len(sample), 512) if sample[at + 257 : at + 262] == b"ustar"
    ]:
        for at in [*range(148), *range(156, 512)]:
            block = bytearray(sample[begin : begin + 512])
            block[at] ^= 1 << at % 8
            block[148:156] = b" " * 8
            block[148:156] = f"{sum(block):06o}\0 ".encode()
            agrees_with_tarfile(sample[:begin] + block + sample[begin + 512 :])


@given(how=changes, which=st.integers(0, len(TARS) - 1))
def test_tarfile_agrees_after_any_change(how: list[tuple[int, int, bytes]], which: int) -> None:
    """The same law for the other kind of archive."""
    agrees_with_tarfile(change(TARS[which], how))


segments = st.text(
    st.characters(categories=["L", "N"], include_characters="._- "), min_size=1, max_size=12
).filter(lambda text: text.strip(".") and text.isprintable())
texts = st.sampled_from(["a", "b", "folder/c", "4", "9", "0", "", "\0", "é", "a\0b", "d/"])
keys = st.sampled_from(["path", "linkpath", "size", "comment", "mtime", "GNU.sparse.size"])
pax = st.lists(st.builds(record, keys, texts), max_size=2).map(b"".join)
blocks = st.one_of(
    st.builds(extended, st.sampled_from([b"x", b"g"]), pax),
    st.builds(extended, st.sampled_from([b"L", b"K"]), texts.map(str.encode)),
    st.builds(
        lambda name, size, kind, prefix: (
            header(name.encode(), size, kind, prefix=prefix) + padded(b"text")
        ),
        texts,
        st.sampled_from(
            [b"4", b"00000000004\0", b"0", b" 4 ", b"\x80" + bytes(10) + b"\4", b"", b"5"]
        ),
        st.sampled_from([b"0", b"\0", b"7", b"5", b"1", b"A"]),
        st.sampled_from([b"", b"p", b"p/q"]),
    ),
)


@given(parts=st.lists(blocks, max_size=4), end=st.sampled_from([0, 512, 1024, 4096]))
@settings(max_examples=300)
def test_tarfile_agrees_whatever_the_headers_say(parts: list[bytes], end: int) -> None:
    """Names and sizes in the header and in extended ones, alone and together."""
    agrees_with_tarfile(b"".join(parts) + bytes(end))


# Hypothesis finds the names that torch and Keras use; with a letter before them they are none.
names = st.lists(segments.map("m".__add__), min_size=1, max_size=3).map("/".join)
contents = st.dictionaries(names, st.binary(max_size=300), max_size=6)


@given(members=contents, method=st.sampled_from([0, 8]), is_pipe=st.booleans())
def test_what_zipfile_writes_is_accepted(
    members: dict[str, bytes], method: int, is_pipe: bool
) -> None:
    """Stored or deflated, with and without data descriptors."""
    inspect = Recorder()
    content = open_zip(write_zip(members, method, is_pipe=is_pipe), inspect)
    assert content.problems == ()
    assert inspect.members == members


@given(members=contents, form=st.sampled_from(FORMS[1:]))
@settings(max_examples=50)
def test_what_tarfile_writes_is_accepted(members: dict[str, bytes], form: int) -> None:
    """In both formats that have room for any name."""
    inspect = Recorder()
    content = open_tar(write_tar(members, form), inspect)
    assert content.problems == ()
    assert inspect.members == members
