"""Zip archives: what is let through, what each rule refuses, and what the inspector is given."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import pickle
import stat
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.models.scan.archives.zip_archive import read_zip
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.limits import ScanLimits
from tests.models.packed import zipped
from tests.models.recorder import Recorder
from tests.models.zip_bytes import Packed, deflate, pack_zip

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DESCRIPTOR = 1 << 3
UTF8 = 1 << 11


def read(
    archive: bytes,
    inspect: Recorder | None = None,
    limits: ScanLimits | None = None,
    depth: int = 0,
) -> Content:
    """The answer for an archive; unless given, the inspector finds nothing wrong."""
    return read_zip(
        io.BytesIO(archive), len(archive), "", limits or ScanLimits(), inspect or Recorder(), depth
    )


def rules(content: Content) -> list[tuple[str, Decision]]:
    """Rules and decisions in order; every problem has a way out."""
    assert all(problem.way_out for problem in content.problems)
    return [(problem.rule, problem.decision) for problem in content.problems]


def written(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive whose members are deflated, unless another method is asked for."""
    return zipped(members, method)


def refused_by(archive: bytes, limits: ScanLimits | None = None) -> set[str]:
    """The rules that refuse an archive, the decision being REFUSED."""
    content = read(archive, limits=limits)
    assert content.decision is Decision.REFUSED
    return {rule for rule, _ in rules(content)}


def network() -> torch.nn.Module:
    """A layer and an activation."""
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())


def trace(module: torch.nn.Module) -> torch.jit.ScriptModule:
    """TorchScript of what the network does to one row."""
    traced: torch.jit.ScriptModule = torch.jit.trace(module, torch.zeros(1, 3))  # type: ignore[no-untyped-call]
    return traced


class Unseekable(io.RawIOBase):
    """A stream that zipfile can only write forward to, so that it adds data descriptors."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, part: object) -> int:
        self.content += bytes(part)  # type: ignore[call-overload]
        return len(bytes(part))  # type: ignore[call-overload]


# What libraries write.


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_members_written_by_zipfile_are_given_with_their_bytes(method: int) -> None:
    """Names, bytes and depth reach the inspector; folders and empty members do no harm."""
    inspect = Recorder()
    members = {"a.bin": bytes(range(256)) * 99, "folder/": b"", "folder/é.txt": b"", "b": b"b"}
    content = read(written(members, method), inspect, depth=1)
    assert (content.format, content.decision, content.problems) == ("zip", Decision.ACCEPTED, ())
    assert inspect.members == {name: text for name, text in members.items() if name[-1] != "/"}
    assert set(inspect.depths.values()) == {2}
    assert content.facts == {"kind": "zip", "members": "4"}


def test_members_written_to_a_pipe_have_descriptors_and_are_accepted() -> None:
    """zipfile cannot go back to fill in sizes, and writes them behind the bytes."""
    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"abc" * 50)
        with archive.open("b", "w", force_zip64=True) as member:
            member.write(b"xyz" * 50)
    inspect = Recorder()
    assert read(stream.content, inspect).problems == ()
    assert inspect.members == {"a": b"abc" * 50, "b": b"xyz" * 50}


def test_an_archive_with_zip64_fields_is_accepted() -> None:
    """force_zip64 writes sizes of 64 bits into the local header."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w") as archive,
        archive.open("a", "w", force_zip64=True) as member,
    ):
        member.write(b"abc")
    assert read(buffer.getvalue()).problems == ()


def test_an_empty_archive_with_a_comment_is_accepted() -> None:
    """There is nothing in it to refuse."""
    assert read(pack_zip([], comment=b"words")).problems == ()


@pytest.mark.parametrize("make", [lambda: network().state_dict(), network])
def test_a_torch_archive_hands_over_its_pickle_and_not_its_numbers(
    make: Callable[[], object],
) -> None:
    """Storages and torch's notes are neither given out nor called unknown."""
    buffer, inspect = io.BytesIO(), Recorder()
    torch.save(make(), buffer)
    content = read(buffer.getvalue(), inspect)
    assert (content.format, content.problems) == ("torch archive", ())
    assert list(inspect.members) == ["archive/data.pkl"]


def test_a_member_beside_the_numbers_of_a_torch_archive_is_handed_over() -> None:
    """Only names that torch gives to storages are passed over."""
    inspect = Recorder()
    names = ["a/data.pkl", "a/data/0", "a/data/evil.pkl", "a/data/0/x", "b/data/0", "a/byteorder"]
    content = read(written(dict.fromkeys(names, b"x" * 9)), inspect)
    assert content.problems == ()
    assert set(names) - set(inspect.members) == {"a/data/0", "a/byteorder"}


@pytest.mark.parametrize("content", [b"3" * 65, b"cos\nsystem\n.", b"\x80\x04N.", b"3\n\n"])
def test_a_note_of_torch_that_is_no_word_is_handed_over(content: bytes) -> None:
    """Anything could stand under that name."""
    inspect = Recorder()
    read(written({"a/data.pkl": b"x", "a/version": content}), inspect)
    assert inspect.members["a/version"] == content


def test_capitals_do_not_hide_a_torch_archive() -> None:
    """torch finds its records whatever their capitals."""
    assert read(written({"a/DATA.PKL": b"x"})).format == "torch archive"


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, trace])
def test_torchscript_is_refused_whatever_is_inside(
    make: Callable[[torch.nn.Module], torch.jit.ScriptModule],
) -> None:
    """Its archive holds code and pickles."""
    buffer = io.BytesIO()
    torch.jit.save(make(network()), buffer)
    content = read(buffer.getvalue())
    assert content.format == "torchscript"
    assert rules(content) == [("torchscript", Decision.REFUSED)]


def test_an_exported_program_is_refused(tmp_path: Path) -> None:
    """Its loader falls back to full pickle."""
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(network(), (torch.zeros(1, 3),)), path)
    content = read(path.read_bytes())
    assert content.format == "torch export"
    assert rules(content) == [("torch-export", Decision.REFUSED)]


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (["m/constants.pkl"], "torchscript"),
        (["m/bytecode.pkl", "m/data.pkl"], "torchscript"),
        (["m/code/a.py", "m/data.pkl"], "torchscript"),
        (["serialized_exported_program.json"], "torch-export"),
        (["m/archive_format"], "torch-export"),
        (["m/models/model.json", "m/data/weights/weight_0"], "torch-export"),
        (["schema.json", "0.npy"], "skops-archive"),
        (["metadata.json", "config.json"], "keras-archive"),
    ],
)
def test_a_kind_of_archive_is_refused_by_its_names(names: list[str], rule: str) -> None:
    """The kind decides, whatever the members hold."""
    assert rule in refused_by(written(dict.fromkeys(names, b"{}")))


@pytest.mark.parametrize("names", [["code/a.py"], ["docs/models/a.json"], ["a/config.json"]])
def test_names_that_only_look_alike_make_no_kind(names: list[str]) -> None:
    """A folder of code or graphs is not yet an archive of torch or Keras."""
    assert read(written(dict.fromkeys(names, b"{}"))).format == "zip"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy_archives_are_judged_by_their_members(
    save: Callable[..., None],
) -> None:
    """A plain archive of arrays has no problem of its own."""
    buffer, inspect = io.BytesIO(), Recorder()
    save(buffer, a=np.arange(3), b=np.ones((2, 2)))
    content = read(buffer.getvalue(), inspect)
    assert (content.format, content.problems) == ("npz", ())
    assert list(inspect.members) == ["a.npy", "b.npy"]


# What members say.


def test_problems_of_a_member_are_taken_over_with_its_place() -> None:
    """The member stands before the place inside it."""
    found = Problem("pickle-content", "imports os.system", "byte 3", "save weights only")
    inspect = Recorder({"a.pkl": (found,)})
    content = read_zip(
        io.BytesIO(archive := written({"a.pkl": b"x"})),
        len(archive),
        "member 'outer.zip', ",
        ScanLimits(),
        inspect,
        1,
    )
    assert content.problems == (
        Problem(
            "pickle-content", "imports os.system", "member 'outer.zip', member 'a.pkl', byte 3",
            "save weights only",
        ),
    )  # fmt: skip


def test_a_kind_that_is_refused_says_what_is_dangerous_and_counts_what_is_not_known() -> None:
    """Unknown members add nothing to an archive that is refused anyway."""
    inspect = Recorder({
        "m/data.pkl": (Problem("pickle-content", "bad", "", "no"),),
        "m/code/a.py": (Problem("custom-code", "?", "", "no", Decision.INCONCLUSIVE),),
    })  # fmt: skip
    content = read(written({"m/data.pkl": b"x", "m/code/a.py": b"y"}), inspect)
    assert [rule for rule, _ in rules(content)] == ["torchscript", "pickle-content"]
    assert content.facts["undecided_members"] == "1"


def test_many_doubts_do_not_hide_a_refusal() -> None:
    """However many problems there are, the worst decision stands."""
    doubt = Problem("unknown-format", "?", "", "no", Decision.INCONCLUSIVE)
    names = [f"m{number}" for number in range(300)]
    inspect = Recorder({
        **dict.fromkeys(names, (doubt,)), "z": (Problem("pickle-content", "bad", "", "no"),)
    })  # fmt: skip
    content = read(written(dict.fromkeys([*names, "z"], b"x")), inspect)
    assert content.decision is Decision.REFUSED
    assert int(content.facts["problems_left_out"]) + len(content.problems) == 301


def test_a_pickle_is_handed_over_and_does_not_run(tmp_path: Path) -> None:
    """Reading an archive opens nothing that it holds."""
    marker = tmp_path / "marker"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    content, inspect = pickle.dumps(Payload()), Recorder()
    read(written({"m/data.pkl": content}), inspect)
    assert inspect.members == {"m/data.pkl": content}
    assert not marker.exists()


@pytest.mark.parametrize("reads", [0, 1, 700])
def test_a_checksum_is_compared_however_little_the_inspector_reads(reads: int) -> None:
    """What the inspector leaves is read to the end."""
    packed = Packed(b"a", b"x" * 5000, 8, local={"crc": 7}, central={"crc": 7})
    content = read(pack_zip([packed]), Recorder(reads=reads))
    assert rules(content) == [("bad-checksum", Decision.REFUSED)]


# Structure.

AGREEING = Packed(b"a", b"text")
OTHERS = {"name": Packed(b"a", local_name=b"b"), "method": Packed(b"a", local={"method": 8}),
          "flags": Packed(b"a", local={"flags": 1}), "crc": Packed(b"a", local={"crc": 1}),
          "size": Packed(b"a", local={"size": 3}), "stored": Packed(b"a", local={"stored": 3}),
          "central size": Packed(b"a", central={"size": 3, "stored": 3})}  # fmt: skip


@pytest.mark.parametrize("which", OTHERS)
def test_headers_that_disagree_are_refused(which: str) -> None:
    """Readers differ in which of the two headers they believe."""
    assert refused_by(pack_zip([OTHERS[which]])) <= {"zip-structure", "data-length"}


def test_how_hard_the_compressor_tried_may_differ() -> None:
    """Bits 1 and 2 change nothing for a reader."""
    packed = Packed(b"a", b"text", 8, local={"flags": 2}, central={"flags": 4})
    assert read(pack_zip([packed])).problems == ()


def descriptor(*, signed: bool = True, wide: bool = False, crc: int | None = None) -> bytes:
    """A data descriptor of `AGREEING`."""
    true = zlib.crc32(AGREEING.content)
    fields = struct.pack("<I2Q" if wide else "<3I", true if crc is None else crc, 4, 4)
    return (b"PK\x07\x08" if signed else b"") + fields


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_a_data_descriptor_may_have_any_of_its_four_forms(signed: bool, wide: bool) -> None:
    """With or without signature, of 32 or 64 bits."""
    packed = Packed(
        b"a", local={"flags": DESCRIPTOR, "crc": 0, "size": 0, "stored": 0},
        central={"flags": DESCRIPTOR}, behind=descriptor(signed=signed, wide=wide),
    )  # fmt: skip
    assert read(pack_zip([packed, Packed(b"b")])).problems == ()


def test_a_data_descriptor_that_disagrees_is_refused() -> None:
    """It has to say what the directory says."""
    packed = Packed(
        b"a", local={"flags": DESCRIPTOR, "crc": 0}, central={"flags": DESCRIPTOR},
        behind=descriptor(crc=5),
    )  # fmt: skip
    assert refused_by(pack_zip([packed])) == {"zip-structure"}


def test_the_layout_of_large_torch_archives_is_accepted() -> None:
    """Beyond 4 GiB torch fills the local zip64 field before it knows the sizes."""
    flags = {"flags": DESCRIPTOR | UTF8}
    field = struct.pack("<2H2Q", 1, 16, 4, 0)
    packed = Packed(
        b"m/data/0", local={**flags, "crc": 0, "size": 0, "stored": 0}, central=flags,
        extra=field, behind=descriptor(wide=True),
    )  # fmt: skip
    assert read(pack_zip([packed])).problems == ()


def test_two_records_of_one_member_overlap() -> None:
    """The bomb that needs no recursion."""
    packed = pack_zip([Packed(b"a", b"x" * 99), Packed(b"a", central={"begin": 0})])
    assert refused_by(packed) == {"member-overlap"}


def test_a_member_that_quotes_the_next_header_overlaps() -> None:
    """Its bytes reach into the next member, whose header they contain."""
    inner = pack_zip([Packed(b"b", b"y" * 9)])
    sizes = {"size": 60, "stored": 60}
    archive = pack_zip([Packed(b"a", b"x" * 9, local=sizes, central=sizes), Packed(b"b")])
    assert refused_by(archive) == {"member-overlap"}
    assert read(inner).problems == ()


@pytest.mark.parametrize(
    ("archive", "rule"),
    [
        (pack_zip([AGREEING], before=b"#!/bin/sh\n"), "zip-structure"),
        (pack_zip([AGREEING], between=b"hidden"), "zip-structure"),
        (pack_zip([AGREEING], between=bytes(64)), "zip-structure"),
        (pack_zip([Packed(b"a", behind=b"hidden"), AGREEING]), "zip-structure"),
        (pack_zip([AGREEING]) + b"x", "trailing-data"),
        (pack_zip([AGREEING], comment=b"x" * 5000), "truncated"),
        (pack_zip([AGREEING], comment=pack_zip([])), "zip-structure"),
        (pack_zip([AGREEING], end={"disk": 1}), "zip-structure"),
        (pack_zip([AGREEING], end={"here": 2}), "zip-structure"),
        (pack_zip([Packed(b"a", central={"disk": 1})]), "zip-structure"),
        (pack_zip([AGREEING], count=2), "zip-structure"),
        (pack_zip([AGREEING, Packed(b"b")], count=1), "zip-structure"),
        (pack_zip([AGREEING], end={"begin": 3}), "zip-structure"),
        (pack_zip([Packed(b"a", central={"begin": 1})]), "zip-structure"),
        (pack_zip([Packed(b"a", central={"version": 64})]), "zip-structure"),
        (pack_zip([Packed(b"a", central_extra=b"\1\0\4\0abcd")]), "zip-structure"),
        (pack_zip([Packed(b"a", central_extra=b"\1\0\xff\0abcd")]), "zip-structure"),
        (pack_zip([Packed(b"a", central_extra=b"up\6\0\1\0\0\0\0b")]), "zip-structure"),
        (pack_zip([Packed(b"a/", b"hidden")]), "zip-structure"),
        (pack_zip([AGREEING])[:-1], "truncated"),
        (pack_zip([AGREEING])[:10], "truncated"),
        (b"", "truncated"),
        (pack_zip([AGREEING, AGREEING]), "duplicate-name"),
        (pack_zip([Packed(b"a"), Packed(b"./a")]), "duplicate-name"),
        (pack_zip([Packed(b"a"), Packed(b"a/", b"")]), "duplicate-name"),
        (pack_zip([Packed(b"\xff", local={"flags": UTF8}, central={"flags": UTF8})]),
         "path-like-name"),
        (pack_zip([Packed(b"a\0b")]), "control-character"),
        (pack_zip([Packed(b"a\nb")]), "control-character"),
        (pack_zip([Packed("a\u202eb".encode(), local={"flags": UTF8},
                          central={"flags": UTF8})]), "control-character"),
        (pack_zip([Packed(b"n" * 5000)]), "text-limit"),
        (pack_zip([Packed(b"a", b"text", 8, raw=deflate(b"text") + b"x")]), "data-length"),
        (pack_zip([Packed(b"a", b"text", 8, raw=deflate(b"te"))]), "data-length"),
        (pack_zip([Packed(b"a", b"text", 8, raw=deflate(b"text more"))]), "data-length"),
        (pack_zip([Packed(b"a", b"text", 0, raw=b"text more")]), "data-length"),
        (pack_zip([Packed(b"a", b"text", 8, raw=b"\xff\xff\xff")]), "malformed"),
        (pack_zip([Packed(b"a", local={"flags": 1}, central={"flags": 1})]), "encrypted"),
        (pack_zip([Packed(b"a", local={"flags": 1 << 6}, central={"flags": 1 << 6})]),
         "encrypted"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_refused(archive: bytes, rule: str) -> None:
    """One flaw for each archive, and its rule."""
    assert refused_by(archive) == {rule}


@pytest.mark.parametrize(
    "name",
    ["../a", "a/../../b", "/etc/passwd", "C:/a", "c:a", "a\\b", "..\\a", "", "a//b", "a/.."],
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    """Whoever unpacks the archive may follow them."""
    assert refused_by(pack_zip([Packed(name.encode())])) == {"path-like-name"}


@pytest.mark.parametrize(
    ("kind", "rule"),
    [(stat.S_IFLNK, "link-escape"), (stat.S_IFIFO, "not-a-file"), (stat.S_IFCHR, "not-a-file")],
)
def test_links_and_devices_are_refused_and_not_looked_at(kind: int, rule: str) -> None:
    """Their type stands in the attributes."""
    inspect = Recorder()
    archive = pack_zip([Packed(b"a", b"/etc/passwd", central={"external": kind << 16})])
    assert rules(read(archive, inspect)) == [(rule, Decision.REFUSED)]
    assert inspect.members == {}


@pytest.mark.parametrize("method", [1, 6, 9, 20, 95, 98, 99])
def test_other_compression_is_not_decided(method: int) -> None:
    """What is not unpacked here is not called clean."""
    inspect = Recorder()
    archive = pack_zip([Packed(b"a", method=method)])
    assert rules(read(archive, inspect)) == [("container", Decision.INCONCLUSIVE)]
    assert inspect.members == {}


TEXT = b"a text that is long enough " * 50
CHAIN = {"id": lzma.FILTER_LZMA1, "dict_size": 2**16}
PROPERTIES = b"\x5d" + struct.pack("<I", 2**16)


def lzma_member(content: bytes, properties: bytes = PROPERTIES, length: int = 5) -> bytes:
    """As APPNOTE 5.8.8 has it, without a mark at the end."""
    packed = lzma.compress(content, lzma.FORMAT_RAW, filters=[CHAIN])
    return struct.pack("<BBH", 9, 4, length) + properties + packed


def test_zstd_and_lzma_are_unpacked() -> None:
    """Also what zipfile does not write here."""
    inspect = Recorder()
    archive = pack_zip([
        Packed(b"z", TEXT, 93, raw=zstd.compress(TEXT)), Packed(b"l", TEXT, 14, lzma_member(TEXT)),
    ])  # fmt: skip
    assert read(archive, inspect).problems == ()
    assert inspect.members == {"z": TEXT, "l": TEXT}


@pytest.mark.parametrize(
    ("method", "raw", "rule"),
    [
        (12, bz2.compress(TEXT) + b"x", "data-length"),
        (12, bz2.compress(TEXT[:9]), "data-length"),
        (12, bz2.compress(TEXT + b"more"), "data-length"),
        (12, bz2.compress(TEXT)[:-9], "data-length"),
        (12, b"BZh9 is no bzip2", "malformed"),
        (14, b"", "malformed"),
        (14, b"\x09\x04\x05", "malformed"),
        (14, lzma_member(TEXT, b"\xff\0\0\1\0"), "malformed"),
        (14, lzma_member(TEXT, b"\x5d\0\0\0\xff"), "malformed"),
        (14, lzma_member(TEXT, length=4), "malformed"),
        (14, lzma_member(TEXT)[:40], "data-length"),
        (93, zstd.compress(TEXT) + b"x", "data-length"),
        (93, b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "malformed"),
    ],
)  # fmt: skip
def test_broken_compression_is_refused(method: int, raw: bytes, rule: str) -> None:
    """Whatever the method: too short, too long, nonsense, or asking for too much memory."""
    archive = pack_zip([Packed(b"a", TEXT, method, raw)])
    assert (rule, Decision.REFUSED) in rules(read(archive))


def test_a_disagreement_of_the_zip64_records_is_refused() -> None:
    """The narrow end record has to say the same, or nothing."""
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 0, 0, 0, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)
    good = record + locator + pack_zip([], end={"begin": 0xFFFFFFFF})
    assert read(good).problems == ()
    assert refused_by(record + locator + pack_zip([], end={"begin": 7})) == {"zip-structure"}
    longer = record.replace(b"\x2c", b"\x2d", 1)
    assert refused_by(longer + locator + pack_zip([])) == {"zip-structure"}


# Limits.


def test_members_are_counted_before_they_are_read() -> None:
    """An archive of more members than are looked at is not decided."""
    archive = written({"a": b"", "b": b""})
    content = read(archive, limits=ScanLimits(members=1))
    assert rules(content) == [("field-limit", Decision.INCONCLUSIVE)]


def test_an_archive_nested_too_deeply_is_not_decided() -> None:
    """The reader does not call itself without end."""
    content = read(written({"a": b""}), depth=3)
    assert rules(content) == [("nesting-limit", Decision.INCONCLUSIVE)]


def test_a_large_directory_is_not_read() -> None:
    """Its bytes are limited as a text is."""
    content = read(written({"a" * 99: b""}), limits=ScanLimits(text_bytes=50))
    assert rules(content) == [("size-limit", Decision.INCONCLUSIVE)]


def test_a_member_beyond_the_limit_is_not_decided_and_the_others_are_looked_at() -> None:
    """The limit is on all members together, as they say before they are inflated."""
    inspect = Recorder()
    archive = written({"a": b"x" * 60, "b": b"y" * 60, "c": b"z" * 30})
    content = read(archive, inspect, ScanLimits(inflated_bytes=100))
    assert rules(content) == [("size-limit", Decision.INCONCLUSIVE)]
    assert list(inspect.members) == ["a", "c"]


@pytest.mark.parametrize("count", [1, 30])
def test_a_bomb_is_refused_before_it_is_inflated(count: int) -> None:
    """In one member, or in many that are each below the limit."""
    inspect = Recorder()
    limits = ScanLimits(ratio_free_bytes=20_000)
    members = {str(number): bytes(300_000 // count) for number in range(count)}
    content = read(written(members), inspect, limits)
    assert rules(content) == [("inflation-ratio", Decision.REFUSED)]
    assert inspect.members == {}


def test_memory_stays_small_however_large_a_member_is() -> None:
    """Bytes are given out in pieces, and read to the end for the checksum."""
    archive = written({"a": bytes(2**25)})
    tracemalloc.start()
    content = read(archive, Recorder(reads=10))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert content.problems == ()
    assert peak < 2**22


# Keras.


def keras(config: object, **members: bytes) -> bytes:
    """A Keras archive with a configuration."""
    return written({
        "metadata.json": b"{}", "config.json": json.dumps(config).encode(),
        "model.weights.h5": b"x", **members,
    })  # fmt: skip


DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 2},
         "registered_name": None}  # fmt: skip


def keras_rules(*layers: object) -> list[tuple[str, Decision]]:
    """The rules that a model of layers breaks."""
    model = {"module": "keras", "class_name": "Sequential", "config": {"layers": layers}}
    return rules(read(keras(model)))


def test_a_keras_archive_of_known_layers_is_refused_once() -> None:
    """It is refused by its type alone."""
    assert keras_rules(DENSE) == [("keras-archive", Decision.REFUSED)]


@pytest.mark.parametrize(
    "change",
    [
        {"class_name": "Lambda"},
        {"class_name": "__lambda__"},
        {"class_name": "keras>Lambda"},
        {"module": "os"},
        {"module": "kerasevil.layers"},
        {"registered_name": "my_package>Dense"},
        {"fn_module": "builtins"},
    ],
)
def test_code_and_foreign_classes_in_a_keras_archive_are_named(change: dict[str, str]) -> None:
    """One problem for each layer that would run or import something."""
    assert keras_rules(DENSE, {"wrapped": [{**DENSE, **change}]}) == [
        ("keras-archive", Decision.REFUSED),
        ("custom-code", Decision.REFUSED),
    ]


def test_each_lambda_layer_is_named() -> None:
    """Two layers, two problems, with their names."""
    layers = [{**DENSE, "class_name": "Lambda", "config": {"name": name}} for name in ("l1", "l2")]
    model = {"class_name": "Sequential", "config": {"layers": layers}}
    texts = [each.problem for each in read(keras(model)).problems if each.rule == "custom-code"]
    assert len(texts) == 2
    assert all(any(name in text for text in texts) for name in ("l1", "l2"))


def test_a_keras_configuration_that_is_no_json_is_refused() -> None:
    """A key that stands twice is read in two ways."""
    archive = written({"metadata.json": b"{}", "config.json": b'{"a": 1, "a": 2}'})
    assert refused_by(archive) == {"keras-archive", "duplicate-field"}


def test_a_keras_configuration_beyond_the_limit_is_counted_as_undecided() -> None:
    """It is not read, and the archive is refused all the same."""
    limits = ScanLimits(text_bytes=300)
    content = read(keras({"a": "x" * 400}), limits=limits)
    assert content.decision is Decision.REFUSED
    assert content.facts["undecided_members"] == "1"
