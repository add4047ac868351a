"""A source of bytes that is read once: peeking, reading and skipping agree with the bytes."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.models.scan.byte_source import ByteSource


def dribbling(content: bytes, most: int) -> Callable[[int], bytes]:
    """A stream that gives at most so many bytes at a time."""
    stream = io.BytesIO(content)
    return lambda count: stream.read(min(count, most))


@given(
    st.binary(max_size=300),
    st.lists(st.tuples(st.sampled_from(["peek", "read", "skip"]), st.integers(0, 90))),
    st.integers(1, 50),
    st.booleans(),
)
def test_every_order_of_calls_gives_the_bytes(
    content: bytes, calls: list[tuple[str, int]], most: int, seekable: bool
) -> None:
    """Whether the stream can skip, and however little it gives at once."""
    stream = io.BytesIO(content)

    def skip(count: int) -> int:
        here = stream.tell()
        stream.seek(min(here + count, len(content)))
        return stream.tell() - here

    source = (ByteSource(stream.read, skip=skip, size=len(content)) if seekable
              else ByteSource(dribbling(content, most)))  # fmt: skip
    at = 0
    for name, count in calls:
        expected = content[at : at + count]
        if name == "peek":
            assert source.peek(count) == expected
            continue
        answer = source.read(count) if name == "read" else source.skip(count)
        assert answer == (expected if name == "read" else len(expected))
        at += len(expected)
        assert source.position == at


def test_the_size_is_what_was_said() -> None:
    """None where nobody knows it."""
    assert ByteSource(io.BytesIO(b"ab").read).size is None
    assert ByteSource(io.BytesIO(b"ab").read, size=7).size == 7


def test_reading_asks_for_no_more_than_a_piece() -> None:
    """A length that a file claims is not an allocation."""
    asked: list[int] = []

    def read(count: int) -> bytes:
        asked.append(count)
        return b""

    assert ByteSource(read).read(2**60) == b""
    assert ByteSource(read).skip(2**60) == 0
    assert max(asked) <= 2**20


def test_an_error_of_the_stream_passes_through() -> None:
    """The caller says where it was."""

    def read(count: int) -> bytes:
        raise OSError(5, "Input/output error")

    for call in (ByteSource(read).peek, ByteSource(read).read, ByteSource(read).skip):
        with pytest.raises(OSError, match="Input/output error"):
            call(1)
