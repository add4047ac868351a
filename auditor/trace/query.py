"""A text as an index compares it: symbols, and the bytes that each of them covers.

In an index of bytes a symbol is a byte. In one of tokens it is a token: a boundary between two
of them counts only if it does not lie within a character that both cover.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.trace.encoder import Encoded, TextEncoder
from auditor.trace.shard import Shard, storable

Int64 = NDArray[np.int64]
Bytes = NDArray[np.uint8]
# Bytes of words: letters, digits, and every byte of a character outside ASCII.
_WORD: Final = np.array(
    [byte >= 128 or chr(byte).isalnum() or byte == ord("_") for byte in range(256)]
)
_SPACE: Final = np.array([chr(byte).isspace() and byte < 128 for byte in range(256)])


class Borders(NamedTuple):
    """Where spans of a text may begin, or end.

    Attributes:
        symbols: The first symbol of a span, or one behind its last, rising.
        places: The first byte of the span, or one behind its last, [the same].
    """

    symbols: Int64
    places: Int64


@dataclass(frozen=True)
class Query:
    """A text.

    Attributes:
        text: Its bytes as an index keeps them.
        tokens: Its tokens, or None where bytes are compared.
    """

    text: Bytes
    tokens: Encoded | None
    _ranks: dict[Path, Int64] = field(default_factory=dict)

    def __len__(self) -> int:
        """Symbols."""
        return len(self.text if self.tokens is None else self.tokens.ids)

    def symbols_in(self, shard: Shard) -> NDArray[np.integer]:
        """The symbols as a shard has them, [symbols]."""
        if self.tokens is None:
            return self.text
        known = self._ranks.get(shard.folder)
        if known is None:
            known = self._ranks[shard.folder] = shard.ranks_of(self.tokens.ids)
        return known

    def symbols_at(self, places: Int64) -> tuple[Int64, NDArray[np.bool_]]:
        """The symbols that begin at some bytes, and for each byte whether one does."""
        if self.tokens is None:
            return places, np.ones(len(places), dtype=bool)
        begins = self.tokens.begins
        at = np.searchsorted(begins, places)
        begun = (at < len(begins)) & self._borders[at]
        begun[begun] = begins[at[begun]] == places[begun]
        return at[begun], begun

    def whole_stops(self, stops: Int64) -> Int64:
        """Ends of matches, symbols, cut back to where no character is divided."""
        if self.tokens is None:
            return stops
        marked = np.where(self._borders, np.arange(len(self) + 1), 0)
        return np.maximum.accumulate(marked)[stops]

    def ends_before(self, stops: Int64) -> Int64:
        """One behind the last byte of the symbols before some; 0 before the first."""
        if self.tokens is None:
            return stops
        return np.concatenate([[0], self.tokens.ends])[stops]

    def first_byte(self, symbol: int) -> int:
        """Where a symbol begins, the last byte if it is behind it."""
        if self.tokens is None:
            return symbol
        return min(int(self.tokens.begins[symbol]), len(self.text) - 1)

    def openings(self) -> Borders:
        """Where spans may begin: at words, of which a token begins in an index of tokens."""
        starts = word_starts(self.text)
        if self.tokens is None:
            return Borders(starts, starts)
        symbols = np.flatnonzero(self._borders[:-1])
        places = self._without_space(symbols, first=True)
        good = np.isin(places, starts)
        return Borders(symbols[good], places[good])

    def closings(self) -> Borders:
        """Where spans may end: behind words, with which a token ends in an index of tokens."""
        ends = word_ends(self.text)
        if self.tokens is None:
            return Borders(ends, ends)
        symbols = np.flatnonzero(self._borders[1:])
        places = self._without_space(symbols, first=False)
        good = np.isin(places, ends)
        return Borders(symbols[good] + 1, places[good])

    @cached_property
    def _borders(self) -> NDArray[np.bool_]:
        """Whether no token covers both sides of the place before each, [tokens + 1]."""
        if self.tokens is None or not len(self):
            return np.ones(len(self) + 1, dtype=bool)
        inner = self.tokens.begins[1:] >= np.maximum.accumulate(self.tokens.ends)[:-1]
        return np.concatenate([[True], inner, [True]])

    def _without_space(self, symbols: Int64, *, first: bool) -> Int64:
        """The first visible byte of some tokens, or one behind the last; -1 if there is none."""
        if self.tokens is None:
            return symbols
        seen = np.flatnonzero(~_SPACE[self.text])
        begins, ends = self.tokens.begins[symbols], self.tokens.ends[symbols]
        low, high = np.searchsorted(seen, begins), np.searchsorted(seen, ends)
        found = np.full(len(symbols), -1, dtype=np.int64)
        some = low < high
        found[some] = seen[low[some]] if first else seen[high[some] - 1] + 1
        return found


def as_query(text: bytes, encoder: TextEncoder | None) -> Query:
    """A text as an index with this tokenizer compares it, or without one.

    Raises:
        ConfigurationError: The tokenizer fails at it.
    """
    kept = np.frombuffer(storable(text), dtype=np.uint8)
    return Query(kept, encoder.encode(text) if encoder else None)


def word_starts(text: Bytes) -> Int64:
    """Where words begin: letters, digits, underscores and bytes outside ASCII are of words."""
    inside = _WORD[text]
    return np.flatnonzero(inside & ~np.concatenate([[False], inside[:-1]]))


def word_ends(text: Bytes) -> Int64:
    """One behind the last byte of each word."""
    inside = _WORD[text]
    return np.flatnonzero(inside & ~np.concatenate([inside[1:], [False]])) + 1
