"""Passages drawn from an index at random: each of its bytes is as likely as any other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from auditor.errors import ConfigurationError
from auditor.trace.matches import TraceIndex
from auditor.trace.shard import DocumentRecord, Shard


class Passage(NamedTuple):
    """A part of a document.

    Attributes:
        record: The document.
        offset: First byte in it.
        text: What stands there.
    """

    record: DocumentRecord
    offset: int
    text: str


def draw_passages(index: TraceIndex, count: int, size: int, seed: int = 0) -> list[Passage]:
    """The passages around so many bytes of an index, each once, in the order they were drawn.

    A passage has at most `size` bytes, and begins and ends with its document or at white space. Of
    a document that is shorter it is the whole. Documents that are no valid UTF-8 are left out, and
    so is a passage without white space, so there may be fewer than `count`.

    Args:
        index: The index.
        count: Bytes to draw.
        size: Bytes of a passage at most.
        seed: Of the drawing.

    Raises:
        ConfigurationError: A count or size below 1.
    """
    if count < 1 or size < 1:
        raise ConfigurationError(f"{count} passages of {size} bytes; give at least 1 of each")
    sizes = np.array([shard.num_bytes + shard.record.documents for shard in index.shards])
    ends = np.cumsum(sizes)
    drawn: dict[tuple[int, int, int], None] = {}
    for place in np.random.default_rng(seed).integers(int(ends[-1]), size=count).tolist():
        number = int(np.searchsorted(ends, place, side="right"))
        inside = place - int(ends[number] - sizes[number])
        document, offset = index.shards[number].document_at(inside)
        length = _length(index.shards[number], document)
        drawn[number, document, max(0, min(offset - size // 2, length - size))] = None
    found = [
        _passage(index.shards[number], document, offset, size) for number, document, offset in drawn
    ]
    return [passage for passage in found if passage.record.is_text and passage.text]


def _length(shard: Shard, document: int) -> int:
    """Bytes of a document, without its separator."""
    return int(shard.starts[document + 1] - shard.starts[document]) - 1


def _passage(shard: Shard, document: int, offset: int, size: int) -> Passage:
    length = _length(shard, document)
    begin = int(shard.starts[document]) + offset
    content = bytes(shard.text[begin : begin + min(size, length - offset)])
    cut = offset + len(content) < length
    if offset:  # the first word may lack its beginning
        skipped = min(_blanks(content), default=len(content) - 1) + 1
        content, offset = content[skipped:], offset + skipped
    if cut:
        content = content[: max(_blanks(content), default=0)]
    return Passage(shard.document(document), offset, content.decode("utf-8", "ignore"))


def _blanks(content: bytes) -> list[int]:
    """Where white space stands."""
    return [at for at, byte in enumerate(content) if byte in b" \t\r\n"]
