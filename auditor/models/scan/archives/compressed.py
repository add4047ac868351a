"""Compressed streams: what they hold is looked at while they are unpacked, within limits.

gzip, zlib, bzip2, xz, lzma and zstd are unpacked, which is also how joblib compresses. Others are
known by how they begin, and said not to be unpacked here. What comes out is never written.
"""

from __future__ import annotations

import zlib
from types import MappingProxyType
from typing import Final

from auditor.models.scan.archives.inflating import CODECS, MEMORY, InflatingReader, Stopped
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision, Inspector, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import nesting_problem

_MAGICS: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"Rar!\x1a\x07", "rar"),
    (b"LZIP", "lzip"),
    (b"\x89LZO\x00\r\n\x1a\n", "lzo"),
    (b"\x1f\x9d", "compress"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (b"ZF0x", "joblib zfile"),
)
_LZMA_HEADER_BYTES: Final = 13
_LARGEST_LZMA: Final = 2**38
_SHORTEST_ZLIB: Final = 8
_PRESET_DICTIONARY: Final = 0x20
_TRIED_BYTES: Final = 4096
_NOT_SEEN: Final = frozenset({Stopped.MEMORY, Stopped.LIMIT, Stopped.MEMBERS})
_WAY_OUT: Final = "unpack it where it was made and scan what is in it"


def compression_of(head: bytes) -> str | None:
    """How a stream is compressed, from its first bytes; None if it is not.

    Only the names that are keys of `CODECS` are unpacked here.
    """
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name if name != "bz2" or _is_bzip2(head) else None
    if len(head) >= 4 and 0x50 <= head[0] < 0x60 and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"  # a frame that is skipped stands first
    if _is_zlib(head):
        return "zlib"
    return "lzma" if _is_lzma(head) else None


def _is_bzip2(head: bytes) -> bool:
    """A digit, then the beginning of a block or, if it is empty, of the end."""
    return head[3:4] in b"123456789" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")


def _is_zlib(head: bytes) -> bool:
    """Two bytes are too few to go by: texts begin with `x^` and `x ` too."""
    start = int.from_bytes(head[:2], "big")
    if len(head) < _SHORTEST_ZLIB or head[0] != 0x78 or start % 31 or start & _PRESET_DICTIONARY:
        return False
    try:
        zlib.decompressobj().decompress(head[:_TRIED_BYTES], _TRIED_BYTES)
    except zlib.error:
        return False
    return True


def _is_lzma(head: bytes) -> bool:
    """The usual parameters, and a length that is unknown or below what liblzma takes."""
    if len(head) < _LZMA_HEADER_BYTES or not head.startswith(b"\x5d\x00\x00"):
        return False
    length = int.from_bytes(head[5:_LZMA_HEADER_BYTES], "little")
    return length == 2**64 - 1 or length < _LARGEST_LZMA


def read_compressed(
    source: ByteSource, place: str, limits: ScanLimits, inspect: Inspector, depth: int
) -> Content:
    """Judge a compressed stream by what is in it, and that it is whole.

    Args:
        source: The stream at its start; read to its end unless a limit is reached.
        place: Prefix of the places, given on to `inspect` as it is.
        limits: How much may come out, at what ratio, and how deep streams may lie.
        inspect: Looks at what comes out.
        depth: In how many archives and compressed streams this one lies.

    Raises:
        OSError: The stream cannot be read.
    """
    codec = compression_of(source.peek(_TRIED_BYTES))
    if codec is None or codec not in CODECS:
        return _not_unpacked(codec, place)
    too_deep = nesting_problem(place, depth, limits)
    if too_deep is not None:
        return Content(codec, (too_deep,))
    reader = InflatingReader(source, codec, limits)
    inner = inspect(ByteSource(reader.read), place, depth + 1)
    reader.drain()
    own = stream_problems(reader, codec, place, limits)
    cut = any(problem.decision is Decision.INCONCLUSIVE for problem in own)
    # Where a limit cut the stream, that what is in it ends early says nothing about it.
    kept = [problem for problem in inner.problems if not (cut and problem.rule == "truncated")]
    facts = dict(inner.facts) | {
        "compression": codec,
        "content": inner.format,
        "inflated_bytes": str(reader.given),
        "compressed_members": str(reader.members),
    }
    return Content(codec, (*own, *kept), inner.parts, MappingProxyType(facts))


def _not_unpacked(codec: str | None, place: str) -> Content:
    where = place.removesuffix(", ")
    if codec is None:
        problem = Problem("malformed", "not compressed in a way that is known", where, _WAY_OUT)
        return Content("unknown", (problem,))
    text = f"{codec}, which is not unpacked here"
    problem = Problem("container", text, where, _WAY_OUT, Decision.INCONCLUSIVE)
    return Content(codec, (problem,))


def stream_problems(
    reader: InflatingReader, codec: str, place: str, limits: ScanLimits
) -> tuple[Problem, ...]:
    """What is wrong with a stream that was read to where it stopped; one problem at most."""
    where = place.removesuffix(", ")
    said = {
        Stopped.TRUNCATED: ("truncated", f"the {codec} stream ends early"),
        Stopped.BROKEN: ("malformed", f"broken {codec}: {reader.reason[:80]}"),
        Stopped.MEMORY: ("size-limit", f"{codec} that needs more than {MEMORY} bytes of memory"),
        Stopped.LIMIT: ("size-limit", f"more than {limits.inflated_bytes} bytes, unpacked"),
        Stopped.MEMBERS: ("member-limit", f"more than {limits.members} {codec} members"),
        Stopped.RATIO: (
            "inflation-ratio",
            f"{reader.given} bytes unpacked, more than {limits.ratio} for each of its own",
        ),
    }
    if reader.stopped in said:
        rule, text = said[reader.stopped]
        decision = Decision.REFUSED
        if reader.stopped in _NOT_SEEN:
            decision, text = Decision.INCONCLUSIVE, f"{text}; the rest is not looked at"
        return (Problem(rule, text, where, _WAY_OUT, decision),)
    if reader.behind:
        text = f"{reader.behind} bytes after the end of the {codec} stream"
        return (Problem("trailing-data", text, where, _WAY_OUT),)
    return ()
