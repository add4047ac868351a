"""Where texts occur in a corpus index, word for word.

A match says that bytes stand in a document of the index; not that a model learned them there.
Queries are taken as bytes, and no match crosses the end of a document.

An index of tokens takes and gives bytes, too, but compares tokens:

- A text is tokenised as if it stood alone. Where the same bytes are cut into other tokens within a
  document, as at the two ends of a query (` fox` and `fox`), they do not match. `count` and `find`
  may hence miss what an index of bytes finds; `spans` counts tokens as they stand in the text.
- What the tokenizer treats alike (case, if it folds it) matches; what it does not know, and bytes
  that are no UTF-8, match nothing.
- A match begins and ends where tokens do, never within a character.
- Texts longer than `encoder.PIECE_BYTES` are tokenised in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, RefusedInput
from auditor.trace.encoder import tokenizer_of
from auditor.trace.manifest import Manifest, read_manifest
from auditor.trace.query import Query, as_query
from auditor.trace.query import word_ends as word_ends
from auditor.trace.query import word_starts as word_starts
from auditor.trace.shard import DocumentRecord, Shard, open_shards
from auditor.trace.suffix_kernel import add_counts, interval, longest_matches
from auditor.trace.surprisal import UnigramCounts

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
CONTEXT: Final = 40

T = TypeVar("T")


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
    """An index to be asked; the module says where indexes of bytes and of tokens differ.

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
        self._encoder = tokenizer_of(folder, self.manifest)

    def count(self, text: bytes) -> int:
        """How often a text of at least one byte, and token, stands in the index.

        Raises:
            ConfigurationError: The text is empty.
        """
        query = self._some(text)
        return self._count(query, 0, len(query))

    def find(self, text: bytes, most: int = 10, context: int = CONTEXT) -> Found:
        """Where a text of at least one byte, and token, stands.

        Args:
            text: The text.
            most: How many places to name.
            context: Bytes of the document to give before and after each.

        Raises:
            ConfigurationError: The text is empty.
        """
        query = self._some(text)
        return self._find(query, 0, len(query), most, context)

    def find_span(self, text: bytes, span: Span, most: int = 10, context: int = CONTEXT) -> Found:
        """Where a span of `spans` stands; the same as `find` of its bytes in an index of bytes.

        Args:
            text: The text.
            span: One of its spans.
            most: How many places to name.
            context: Bytes of the document to give before and after each.

        Raises:
            ConfigurationError: It is none of the text's.
        """
        query = self._query(text)
        begins, ends = query.openings(), query.closings()
        first = np.flatnonzero(begins.places == span.start)
        last = np.flatnonzero(ends.places == span.stop)
        if not len(first) or not len(last) or span.start >= span.stop:
            raise ConfigurationError(
                f"bytes {span.start} to {span.stop} are no span of this text; ask `spans` for some"
            )
        begin, end = int(begins.symbols[first[0]]), int(ends.symbols[last[0]])
        return self._find(query, begin, end, most, context)

    def longest_matches(self, text: bytes, starts: Sequence[int] | Int64 | None = None) -> Int64:
        """The matching statistics of a text: how long the longest match from each place is.

        Args:
            text: The text.
            starts: Places in it, bytes; every byte if None.

        Returns:
            Lengths in bytes, [places], at most to the end of the text. In an index of tokens 0
            where no token begins.
        """
        query = self._query(text)
        places = np.arange(len(text)) if starts is None else np.asarray(starts, dtype=np.int64)
        if ((places < 0) | (places > len(text))).any():
            raise ConfigurationError(f"a place outside of a text of {len(text)} bytes")
        symbols, begun = query.symbols_at(places)
        lengths = np.zeros(len(places), dtype=np.int64)
        stops = query.whole_stops(symbols + self._longest(query, symbols))
        lengths[begun] = np.maximum(query.ends_before(stops) - places[begun], 0)
        return lengths

    def longest_matches_of(self, texts: Sequence[bytes], threads: int = 1) -> list[Int64]:
        """`longest_matches` from every byte of each text, on so many threads.

        Raises:
            ConfigurationError: Fewer than one thread.
        """
        return _on_threads(self.longest_matches, texts, threads)

    def spans(self, text: bytes, least: int = 1) -> list[Span]:
        """The maximal spans of a text that begin and end at words.

        A match from each word is cut back to the end of its last whole word; spans that lie in
        the one before them, and shorter ones than `least` bytes, are left out. In an index of
        tokens spans begin and end with words that do so with a token; white space in the first and
        last token is not of the span.

        Args:
            text: The text.
            least: Bytes that a span has at least.
        """
        query = self._query(text)
        begins, ends = query.openings(), query.closings()
        reached = 0
        found: list[Span] = []
        lengths = self._longest(query, begins.symbols)
        lasts = np.searchsorted(ends.symbols, begins.symbols + lengths, side="right") - 1
        for first, start, last in zip(begins.symbols, begins.places, lasts, strict=True):
            if last < 0 or ends.symbols[last] <= first:
                continue
            stop = int(ends.places[last])
            if stop <= reached or stop - start < least:
                continue
            reached = stop
            count = self._count(query, int(first), int(ends.symbols[last]))
            found.append(Span(int(start), stop, count))
        return found

    def spans_of(
        self, texts: Sequence[bytes], least: int = 1, threads: int = 1
    ) -> list[list[Span]]:
        """`spans` of each text, on so many threads.

        Raises:
            ConfigurationError: Fewer than one thread.
        """
        return _on_threads(lambda text: self.spans(text, least), texts, threads)

    def log_probabilities(self, text: bytes, order: int = 12, backoff: float = 0.4) -> Float64:
        """How likely the index finds each byte of a text, given the bytes before it.

        Of the contexts of at most `order` - 1 bytes the longest that the index holds gives the
        share of its occurrences that the byte follows. Where it never does, the context loses its
        first byte and the share is multiplied by `backoff` (Brants et al. 2007, "stupid backoff":
        the shares are scores, which need not sum to 1). A byte that the index does not hold at
        all counts as standing there once.

        An index of tokens scores tokens given the tokens before them. The score of each stands at
        its first byte, at others is 0, so that scores sum up to that of the text here, too.

        Args:
            text: The text.
            order: Bytes, or tokens, of the longest n-gram, the last one included.
            backoff: In (0, 1].

        Returns:
            Natural logarithms, [bytes].

        Raises:
            ConfigurationError: An order below 1, or a back-off outside of (0, 1].
            RefusedInput: The index is damaged.
        """
        if order < 1 or not 0 < backoff <= 1:
            raise ConfigurationError(
                f"order {order} and back-off {backoff}; give at least 1, and a number in (0, 1]"
            )
        query = self._query(text)
        counts = np.zeros((order + 1, len(query) + 1), dtype=np.int64)
        for shard in self.shards:
            add_counts(*_arrays(shard), query.symbols_in(shard), counts)
        counts[0] = sum(shard.num_symbols for shard in self.shards)
        # No n-gram stands more often than its end; suffixes out of order count otherwise.
        if counts[0, 0] < 1 or (counts < 0).any() or (np.diff(counts, axis=0) > 0).any():
            raise self._damaged()
        found = np.zeros(len(text), dtype=np.float64)
        for place in range(len(query)):
            known = int(np.flatnonzero(counts[:order, place])[-1])
            seen = int(np.flatnonzero(counts[1:, place + 1])[-1]) if counts[1, place + 1] else -1
            used = min(known, max(seen, 0))
            share = max(1, counts[used + 1, place + 1]) / counts[used, place]
            score = np.log(share) + (known - used) * np.log(backoff)
            found[query.first_byte(place)] += score
        return found

    def unigrams(self) -> UnigramCounts:
        """How often each word and mark (`auditor.trace.tokens`) stands in the index.

        Raises:
            ConfigurationError: It holds none.
            RefusedInput: The index is damaged.
        """
        hashes = [shard.tokens[:, 0] for shard in self.shards]
        if any((shard.tokens[:, 3] < 1).any() for shard in self.shards):
            raise self._damaged()
        return UnigramCounts(
            count=lambda token: sum(shard.count_token(token) for shard in self.shards),
            total=sum(int(shard.tokens[:, 3].sum()) for shard in self.shards),
            types=len(np.unique(np.concatenate(hashes))),
        )

    def _query(self, text: bytes) -> Query:
        return as_query(text, self._encoder)

    def _some(self, text: bytes) -> Query:
        query = self._query(text)
        if not text:
            raise ConfigurationError("an empty text stands everywhere; give at least one byte")
        if not len(query):
            raise ConfigurationError(f"{text[:40]!r} has no token in this index; give more text")
        return query

    def _longest(self, query: Query, places: Int64) -> Int64:
        """Symbols of the longest matches from some symbols of a query."""
        best = np.zeros(len(places), dtype=np.int64)
        lengths, ranks = np.empty_like(best), np.empty_like(best)
        for shard in self.shards:
            longest_matches(*_arrays(shard), query.symbols_in(shard), places, lengths, ranks)
            np.maximum(best, lengths, out=best)
        return best

    def _count(self, query: Query, start: int, stop: int) -> int:
        return sum(high - low for low, high in self._intervals(query, start, stop))

    def _find(self, query: Query, start: int, stop: int, most: int, context: int) -> Found:
        found = self._intervals(query, start, stop)
        occurrences: list[Occurrence] = []
        shares = _shares([high - low for low, high in found], most)
        for shard, (low, high), wanted in zip(self.shards, found, shares, strict=True):
            for rank in np.linspace(low, high, wanted, endpoint=False).astype(np.int64):
                position = int(shard.suffixes[rank])
                place = shard.covered(position, stop - start)
                occurrences.append(_occurrence(shard, *place, context))
        return Found(sum(high - low for low, high in found), tuple(occurrences))

    def _intervals(self, query: Query, start: int, stop: int) -> list[tuple[int, int]]:
        """The ranks of each shard whose suffixes begin with some symbols of a query."""
        found = []
        for shard in self.shards:
            low, high = interval(*_arrays(shard), query.symbols_in(shard), start, stop)
            if low > high:
                raise self._damaged()
            found.append((int(low), int(high)))
        return found

    def _damaged(self) -> RefusedInput:
        return RefusedInput(f"{self.folder} is damaged; build the index anew")


def _arrays(shard: Shard) -> tuple[Any, Any, Any]:
    """What the compiled searches look at."""
    return shard.sequence, shard.suffixes, shard.buckets


def _shares(counts: Sequence[int], most: int) -> list[int]:
    """How many places each shard names: all if there are no more, else by its part of them.

    What rounding leaves goes to the shards that name fewest.
    """
    total = sum(counts)
    if total <= most:
        return list(counts)
    shares = [count * most // total for count in counts]
    for number, count in sorted(enumerate(counts), key=lambda each: (shares[each[0]], each[0])):
        if sum(shares) < most and shares[number] < count:
            shares[number] += 1
    return shares


def _on_threads(ask: Callable[[bytes], T], texts: Sequence[bytes], threads: int) -> list[T]:
    """The answers for texts in their order; the compiled searches run side by side."""
    if threads < 1:
        raise ConfigurationError(f"{threads} threads; give at least 1")
    if threads == 1:
        return [ask(text) for text in texts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, texts))


def _occurrence(shard: Shard, start: int, stop: int, context: int) -> Occurrence:
    number, offset = shard.document_at(start)
    begin, end = int(shard.starts[number]), int(shard.starts[number + 1]) - 1
    before = bytes(shard.text[max(begin, start - context) : start])
    after = bytes(shard.text[stop : min(end, stop + context)])
    return Occurrence(
        shard.document(number), offset, before.decode("utf-8", "replace"),
        after.decode("utf-8", "replace"),
    )  # fmt: skip
