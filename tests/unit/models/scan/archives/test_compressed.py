"""Compressed streams: looked into while they are unpacked, and never further than the limits."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.models.scan.archives.compressed import compression_of, read_compressed
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.walk import walk_pickle

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODECS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "zstd": zstd.compress,
}
SEVERAL = ["gzip", "bz2", "xz", "zstd"]
"""Of these, members may follow each other."""
TEXT = bytes(np.random.default_rng(5).integers(97, 123, 200_000, dtype=np.uint8))
UNLIMITED = ScanLimits(ratio=2**40)


class Seen:
    """Looks at what comes out: keeps it, and what it was called."""

    def __init__(self, problems: tuple[Problem, ...] = (), *, at_most: int = 2**40) -> None:
        self.content, self.name, self.depth = b"", "", -1
        self.problems, self.at_most = problems, at_most

    def __call__(self, source: ByteSource, name: str, depth: int) -> Content:
        self.name, self.depth = name, depth
        self.content = source.read(self.at_most)
        return Content("seen", self.problems, ("all of it",), {"bytes": str(len(self.content))})


def read(
    content: bytes,
    seen: Callable[[ByteSource, str, int], Content] | None = None,
    limits: ScanLimits | None = None,
    depth: int = 0,
) -> Content:
    """The answer for bytes in memory."""
    source = ByteSource(io.BytesIO(content).read, size=len(content))
    inspect = Seen() if seen is None else seen
    return read_compressed(source, "member 'a', ", limits or ScanLimits(), inspect, depth)


def only(found: Content) -> tuple[str, Decision]:
    """The one problem that is expected, by rule and decision; it stands at the place given."""
    (problem,) = found.problems
    assert problem.place == "member 'a'"
    assert problem.way_out
    return problem.rule, problem.decision


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("content", [b"", b"x", TEXT, bytes(50_000)], ids=len)
def test_what_is_in_it_is_looked_at(codec: str, content: bytes) -> None:
    """All of it, under the same name, one level deeper; its facts and parts are kept."""
    seen = Seen()
    found = read(CODECS[codec](content), seen, depth=1)
    assert (seen.content, seen.name, seen.depth) == (content, "member 'a', ", 2)
    assert (found.format, found.problems, found.parts) == (codec, (), ("all of it",))
    assert dict(found.facts) == {
        "bytes": str(len(content)),
        "compression": codec,
        "content": "seen",
        "inflated_bytes": str(len(content)),
        "compressed_members": "1",
    }


@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("codec", ["gzip", "zlib", "bz2", "xz", "zstd"])
def test_every_level_is_read(codec: str, level: int) -> None:
    """The first bytes differ from level to level, and `xz -9` looks far back."""
    by_level: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda content: gzip.compress(content, level),
        "zlib": lambda content: zlib.compress(content, level),
        "bz2": lambda content: bz2.compress(content, max(1, level)),
        "xz": lambda content: lzma.compress(content, preset=level),
        "zstd": lambda content: zstd.compress(content, 22 if level == 9 else level),
    }
    seen = Seen()
    assert read(by_level[codec](TEXT), seen).problems == ()
    assert seen.content == TEXT


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_pickle_in_it_is_refused_and_does_not_run(codec: str, tmp_path: Path) -> None:
    """As joblib stores it, whatever compresses it."""
    marker = tmp_path / "marker"
    content = CODECS[codec](pickle.dumps(_Marker(marker)))

    def inspect(source: ByteSource, name: str, _: int) -> Content:
        return walk_pickle(source, name, ScanLimits())

    found = read(content, inspect)
    assert {"pickle-content", "pickle-import"} <= {problem.rule for problem in found.problems}
    assert found.facts["content"] == "pickle"
    assert not marker.exists()


class _Marker:
    """Unpickling it creates a file; nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_problem_of_what_is_in_it_is_kept(codec: str) -> None:
    """As it is."""
    problem = Problem("some-rule", "something", "byte 3", "do otherwise")
    assert read(CODECS[codec](b"abc"), Seen((problem,))).problems == (problem,)


@pytest.mark.parametrize("codec", SEVERAL)
def test_members_that_follow_each_other_are_one_stream(codec: str) -> None:
    """Also with zeros between them, as tape archives have."""
    compress, seen = CODECS[codec], Seen()
    found = read(compress(b"one ") + compress(b"two ") + bytes(40_000) + compress(TEXT), seen)
    assert seen.content == b"one two " + TEXT
    assert (found.problems, found.facts["compressed_members"]) == ((), "3")


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_frame_that_zstd_skips_is_skipped(place: str) -> None:
    """Wherever it stands."""
    skipped, frame = b"\x53\x2a\x4d\x18" + struct.pack("<I", 5) + b"extra", zstd.compress(TEXT)
    content = skipped + frame if place == "first" else frame + skipped
    seen = Seen()
    assert read(content, seen).problems == ()
    assert seen.content == TEXT


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("rest", [b"x", b"trailing bytes", b"\0\0\0\1", b"\x1f", b"y" * 70_000])
def test_bytes_behind_the_stream_are_refused(codec: str, rest: bytes) -> None:
    """With their number."""
    found = read(CODECS[codec](b"abc") + rest)
    assert only(found) == ("trailing-data", Decision.REFUSED)
    assert found.problems[0].problem.startswith(f"{len(rest)} bytes")


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_zeros_behind_the_stream_are_padding(codec: str) -> None:
    """However many."""
    assert read(CODECS[codec](b"abc") + bytes(70_000)).problems == ()


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_stream_cut_at_any_byte_is_truncated(codec: str) -> None:
    """Once there are enough bytes to know what it is; what came out was looked at."""
    content = CODECS[codec](b"some text, some text")
    first = next(size for size in range(len(content)) if compression_of(content[:size]))
    assert first < 16
    for size in range(first, len(content)):
        assert only(read(content[:size])) == ("truncated", Decision.REFUSED)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_stream_whose_bytes_are_changed_never_passes_as_another(codec: str) -> None:
    """It is refused, or what comes out is what went in; lzma has no checksum."""
    original = CODECS[codec](TEXT[:300])
    for at in range(len(original)):
        content = bytearray(original)
        content[at] ^= 0x20
        seen = Seen()
        found = read(bytes(content), seen)
        if codec not in ("lzma", "zstd") and not found.problems:
            assert seen.content == TEXT[:300]
        assert found.decision is not Decision.ACCEPTED or len(seen.content) == 300


def test_a_broken_stream_says_what_is_wrong() -> None:
    """In the words of what unpacks it."""
    content = bytearray(gzip.compress(TEXT))
    content[-6] ^= 1
    found = read(bytes(content))
    assert only(found) == ("malformed", Decision.REFUSED)
    assert "incorrect data check" in found.problems[0].problem


# Limits.


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_more_bytes_than_the_limit_are_an_open_question(codec: str) -> None:
    """And what is in it is not blamed for ending there."""
    limits = ScanLimits(inflated_bytes=100_000)
    cut = Problem("truncated", "ends early")
    assert read(CODECS[codec](TEXT[:100_000]), limits=limits).problems == ()
    found = read(CODECS[codec](TEXT), Seen((cut,)), limits=limits)
    assert only(found) == ("size-limit", Decision.INCONCLUSIVE)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_stream_that_grows_too_much_is_refused(codec: str) -> None:
    """But not below the size that is let through."""
    content = CODECS[codec](bytes(2**20))
    free = ScanLimits(ratio=20, ratio_free_bytes=2**20)
    assert read(content, limits=free).problems == ()
    limits = ScanLimits(ratio=20, ratio_free_bytes=2**19)
    assert only(read(content, limits=limits)) == ("inflation-ratio", Decision.REFUSED)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_the_limits_hold_for_what_nobody_looked_at(codec: str) -> None:
    """All of the stream is unpacked, also where its beginning was enough."""
    limits = ScanLimits(inflated_bytes=100_000)
    seen = Seen(at_most=10)
    assert only(read(CODECS[codec](TEXT), seen, limits)) == ("size-limit", Decision.INCONCLUSIVE)
    assert only(read(CODECS[codec](TEXT)[:-9], Seen(at_most=10)))[0] == "truncated"


@pytest.mark.parametrize("codec", SEVERAL)
def test_more_members_than_the_limit_are_an_open_question(codec: str) -> None:
    """Each costs time, however small it is."""
    content = CODECS[codec](b"") * 5
    assert read(content, limits=ScanLimits(members=5)).problems == ()
    found = read(content, limits=ScanLimits(members=4))
    assert only(found) == ("member-limit", Decision.INCONCLUSIVE)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_streams_nested_too_deep_are_not_unpacked(codec: str) -> None:
    """And say so."""
    seen, limits = Seen(), ScanLimits(archive_depth=2)
    assert read(CODECS[codec](b"abc"), seen, limits, depth=1).problems == ()
    found = read(CODECS[codec](b"abc"), unreachable, limits, depth=2)
    assert only(found) == ("nesting-limit", Decision.INCONCLUSIVE)


def unreachable(_: ByteSource, __: str, ___: int) -> Content:
    """What must not be looked at."""
    raise AssertionError


def test_streams_inside_each_other_end_at_the_limit() -> None:
    """However many there are."""
    content = b"x"
    for _ in range(20):
        content = gzip.compress(content)

    def inspect(source: ByteSource, name: str, depth: int) -> Content:
        return read_compressed(source, name, ScanLimits(), inspect, depth)

    assert only(read(content, inspect)) == ("nesting-limit", Decision.INCONCLUSIVE)


def test_lzma_that_asks_for_much_memory_is_an_open_question() -> None:
    """The dictionary it names is not allocated."""
    content = bytearray(lzma.compress(b"abc", lzma.FORMAT_ALONE))
    content[1:5] = struct.pack("<I", 2**31)
    assert only(read(bytes(content))) == ("size-limit", Decision.INCONCLUSIVE)


def test_zstd_that_asks_for_much_memory_is_an_open_question() -> None:
    """Its window is not allocated."""
    options = {int(zstd.CompressionParameter.window_log): 30}
    packer = zstd.ZstdCompressor(options=options)
    content = packer.compress(TEXT) + packer.flush()
    assert only(read(content)) == ("size-limit", Decision.INCONCLUSIVE)


@pytest.mark.parametrize(("codec", "most"), [("gzip", 2**21), ("bz2", 2**21), ("xz", 2**24),
                                             ("zstd", 2**21)])  # fmt: skip
def test_a_stream_that_would_fill_the_memory_takes_little_of_it(codec: str, most: int) -> None:
    """More than 1 GB would come out; it is refused long before, and could be read to the end."""
    member = CODECS[codec](bytes(2**24))
    content = member * 66

    def inspect(source: ByteSource, _: str, __: int) -> Content:
        return Content("skipped", facts={"skipped": str(source.skip(2**40))})

    for limits in (ScanLimits(), ScanLimits(ratio=2**40, inflated_bytes=2**27)):
        tracemalloc.start()
        found = read(content, inspect, limits)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.problems[0].rule in ("inflation-ratio", "size-limit")
        assert int(found.facts["skipped"]) <= 2**27
        assert peak < most


# What is recognised.


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        (b"\x04\x22\x4d\x18\x64\x40", "lz4"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"Rar!\x1a\x07\x01\x00", "rar"),
        (b"LZIP\x01", "lzip"),
        (b"\x89LZO\x00\r\n\x1a\n", "lzo"),
        (b"\x1f\x9d\x90", "compress"),
        (b"\xff\x06\x00\x00sNaPpY", "snappy"),
        (b"ZF0x1c              x\x9c", "joblib zfile"),
    ],
)
def test_what_is_not_unpacked_here_says_so(head: bytes, codec: str) -> None:
    """It is not decided, and not called clean."""
    assert compression_of(head) == codec
    found = read(head + bytes(100), unreachable)
    assert only(found) == ("container", Decision.INCONCLUSIVE)
    assert found.problems[0].problem == f"{codec}, which is not unpacked here"


@pytest.mark.parametrize(
    "head",
    [b"", b"x", b"x^2 + y^2 = z^2\n", b"BZh, a text", b"BZh9", b"]q\x00(K\x01e.", b"]\x94.",
     b"x\x9cthis is no deflate stream", b"hello", bytes(20), b"\x5d\x00\x00\x80\x00" + b"\x7f" * 8,
     pickle.dumps([1, 2, 3], 0), b"\x78\x20\xff\xff", b"x^2", b"x yz, a text"],
)  # fmt: skip
def test_what_is_not_compressed_is_not_taken_for_it(head: bytes) -> None:
    """Two bytes are not enough to go by."""
    assert compression_of(head) is None
    assert only(read(head, unreachable)) == ("malformed", Decision.REFUSED)


@given(
    start=st.sampled_from([b"", b"\x1f\x8b\x08", b"x\x9c", b"BZh91AY&SY", b"\xfd7zXZ\x00",
                           b"\x28\xb5\x2f\xfd", b"\x5d\x00\x00\x01\x00" + b"\xff" * 8]),
    rest=st.binary(max_size=300),
)  # fmt: skip
def test_random_bytes_never_raise(start: bytes, rest: bytes) -> None:
    """They are judged; memory stays small."""
    assert isinstance(read(start + rest), Content)


@given(codec=st.sampled_from(sorted(CODECS)), content=st.binary(max_size=3000),
       sizes=st.lists(st.integers(1, 400), min_size=1, max_size=5))  # fmt: skip
def test_whatever_is_read_at_a_time_the_content_is_the_same(
    codec: str, content: bytes, sizes: list[int]
) -> None:
    """Also from a stream that gives few bytes at a time."""
    stream = io.BytesIO(CODECS[codec](content))
    turn = [0]

    def give(count: int) -> bytes:
        turn[0] += 1
        return stream.read(min(count, sizes[turn[0] % len(sizes)]))

    seen = Seen()
    found = read_compressed(ByteSource(give), "", UNLIMITED, seen, 0)
    assert (found.problems, seen.content) == ((), content)
