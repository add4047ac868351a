"""Where texts occur in a corpus index, word for word.

A match says that bytes stand in a document of the index; not that a model learned them there.
Queries are taken as bytes, and no match crosses the end of a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.trace.index import open_shards
from auditor.trace.manifest import Manifest, read_manifest
from auditor.trace.shard import DocumentRecord, Shard, storable
from auditor.trace.suffix_kernel import add_counts, interval, longest_matches
from auditor.trace.surprisal import UnigramCounts

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bytes = NDArray[np.uint8]
CONTEXT: Final = 40
# Bytes of words: letters, digits, and every byte of a character outside ASCII.
_WORD: Final = np.array(
    [byte >= 128 or chr(byte).isalnum() or byte == ord("_") for byte in range(256)]
)


@dataclass(frozen=True)
class Occurrence:
    """One place where a text stands.

    Attributes:
        document: The document.
        offset: First byte in the document.
        before: Bytes before it, as text; as many as were asked for at most.
        after: As many behind it.
    """

    document: DocumentRecord
    offset: int
    before: str
    after: str


@dataclass(frozen=True)
class Found:
    """Where a text stands.

    Attributes:
        count: How often, in the whole index.
        occurrences: Some of these places, as many as were asked for at most: of each shard
            evenly spread over the order of what follows them.
    """

    count: int
    occurrences: tuple[Occurrence, ...]


@dataclass(frozen=True)
class Span:
    """A part of a text that stands in the index and cannot be made longer to the right.

    Attributes:
        start: First byte in the text.
        stop: One behind the last.
        count: How often it stands in the index.
    """

    start: int
    stop: int
    count: int


class TraceIndex:
    """An index to be asked.

    Args:
        folder: Its folder.

    Raises:
        FileMissing: There is no index.
        ConfigurationError: It is of another version.
        RefusedInput: It is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self.shards: Sequence[Shard] = open_shards(folder, self.manifest)

    def count(self, text: bytes) -> int:
        """How often a text of at least one byte stands in the index.

        Raises:
            ConfigurationError: The text is empty.
        """
        return sum(high - low for low, high in self._intervals(_query(text)))

    def find(self, text: bytes, most: int = 10, context: int = CONTEXT) -> Found:
        """Where a text of at least one byte stands.

        Args:
            text: The text.
            most: How many places to name.
            context: Bytes of the document to give before and after each.

        Raises:
            ConfigurationError: The text is empty.
        """
        query = _query(text)
        found = self._intervals(query)
        occurrences: list[Occurrence] = []
        for shard, (low, high) in zip(self.shards, found, strict=True):
            wanted = min(high - low, most - len(occurrences))
            for rank in np.linspace(low, high, wanted, endpoint=False).astype(np.int64):
                position = int(shard.suffixes[rank])
                occurrences.append(_occurrence(shard, position, len(query), context))
        return Found(sum(high - low for low, high in found), tuple(occurrences))

    def longest_matches(self, text: bytes, starts: Sequence[int] | Int64 | None = None) -> Int64:
        """The matching statistics of a text: how long the longest match from each place is.

        Args:
            text: The text.
            starts: Places in it, bytes; every byte if None.

        Returns:
            Lengths in bytes, [places], at most to the end of the text.
        """
        query = np.frombuffer(storable(text), dtype=np.uint8)
        places = np.arange(len(query)) if starts is None else np.asarray(starts, dtype=np.int64)
        if ((places < 0) | (places > len(query))).any():
            raise ConfigurationError(f"a place outside of a text of {len(query)} bytes")
        best = np.zeros(len(places), dtype=np.int64)
        lengths, ranks = np.empty_like(best), np.empty_like(best)
        for shard in self.shards:
            longest_matches(
                shard.text, shard.suffixes, shard.buckets, query, places, lengths, ranks
            )
            np.maximum(best, lengths, out=best)
        return best

    def spans(self, text: bytes, least: int = 1) -> list[Span]:
        """The maximal spans of a text that begin and end at words.

        A match from each word is cut back to the end of its last whole word; spans that lie in
        the one before them, and shorter ones than `least` bytes, are left out.

        Args:
            text: The text.
            least: Bytes that a span has at least.
        """
        query = np.frombuffer(storable(text), dtype=np.uint8)
        starts = word_starts(query)
        ends = word_ends(query)
        reached = 0
        found: list[Span] = []
        for start, length in zip(starts, self.longest_matches(text, starts), strict=True):
            at = int(np.searchsorted(ends, start + length, side="right")) - 1
            stop = int(ends[at]) if at >= 0 else 0
            if stop <= start or stop <= reached or stop - start < least:
                continue
            reached = stop
            found.append(Span(int(start), stop, self.count(text[start:stop])))
        return found

    def log_probabilities(self, text: bytes, order: int = 12, backoff: float = 0.4) -> Float64:
        """How likely the index finds each byte of a text, given the bytes before it.

        Of the contexts of at most `order` - 1 bytes the longest that the index holds gives the
        share of its occurrences that the byte follows. Where it never does, the context loses its
        first byte and the share is multiplied by `backoff` (Brants et al. 2007, "stupid backoff":
        the shares are scores, which need not sum to 1). A byte that the index does not hold at
        all counts as standing there once.

        Args:
            text: The text.
            order: Bytes of the longest n-gram, the byte itself included.
            backoff: In (0, 1].

        Returns:
            Natural logarithms, [bytes].

        Raises:
            ConfigurationError: An order below 1, or a back-off outside of (0, 1].
        """
        if order < 1 or not 0 < backoff <= 1:
            raise ConfigurationError(
                f"order {order} and back-off {backoff}; give at least 1, and a number in (0, 1]"
            )
        query = np.frombuffer(storable(text), dtype=np.uint8)
        counts = np.zeros((order + 1, len(query) + 1), dtype=np.int64)
        for shard in self.shards:
            add_counts(shard.text, shard.suffixes, shard.buckets, query, counts)
        counts[0] = sum(shard.num_bytes for shard in self.shards)
        found = np.empty(len(query), dtype=np.float64)
        for place in range(len(query)):
            known = int(np.flatnonzero(counts[:order, place])[-1])
            seen = int(np.flatnonzero(counts[1:, place + 1])[-1]) if counts[1, place + 1] else -1
            used = min(known, max(seen, 0))
            share = max(1, counts[used + 1, place + 1]) / counts[used, place]
            found[place] = np.log(share) + (known - used) * np.log(backoff)
        return found

    def unigrams(self) -> UnigramCounts:
        """How often each token stands in the index."""
        hashes = [shard.tokens[:, 0] for shard in self.shards]
        return UnigramCounts(
            count=lambda token: sum(shard.count_token(token) for shard in self.shards),
            total=sum(int(shard.tokens[:, 3].sum()) for shard in self.shards),
            types=len(np.unique(np.concatenate(hashes))),
        )

    def _intervals(self, query: Bytes) -> list[tuple[int, int]]:
        """The ranks of each shard whose suffixes begin with the query."""
        found = []
        for shard in self.shards:
            low, high = interval(shard.text, shard.suffixes, shard.buckets, query, 0, len(query))
            found.append((int(low), int(high)))
        return found


def word_starts(text: Bytes) -> Int64:
    """Where words begin: letters, digits, underscores and bytes outside ASCII are of words."""
    inside = _WORD[text]
    return np.flatnonzero(inside & ~np.concatenate([[False], inside[:-1]]))


def word_ends(text: Bytes) -> Int64:
    """One behind the last byte of each word."""
    inside = _WORD[text]
    return np.flatnonzero(inside & ~np.concatenate([inside[1:], [False]])) + 1


def _query(text: bytes) -> Bytes:
    if not text:
        raise ConfigurationError("an empty text stands everywhere; give at least one byte")
    return np.frombuffer(storable(text), dtype=np.uint8)


def _occurrence(shard: Shard, position: int, length: int, context: int) -> Occurrence:
    number, offset = shard.document_at(position)
    begin, end = int(shard.starts[number]), int(shard.starts[number + 1]) - 1
    before = bytes(shard.text[max(begin, position - context) : position])
    after = bytes(shard.text[position + length : min(end, position + length + context)])
    return Occurrence(
        shard.document(number), offset, before.decode("utf-8", "replace"),
        after.decode("utf-8", "replace"),
    )  # fmt: skip
