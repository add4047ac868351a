"""What came of asking a model for its training text: each span at each prefix length.

A continuation is exact when greedy decoding gives all of its tokens (k-extractable for a prefix of
k tokens, Carlini et al. 2022, arXiv 2202.07646), near when the completion has an edit similarity of
at least a limit, drawn when sampling gives it (Hayes et al. 2024, arXiv 2410.19482).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from auditor.language.teacher_forcing import ContinuationReading
from auditor.memorization.language.training_spans import TrainingSpan

NEAR_TIE: Final = 1e-4
"""Logits closer than this may change places with the shape of a batch."""


@dataclass(frozen=True)
class Drawn:
    """Completions that were sampled at temperature 1.

    Attributes:
        hits: How many were the continuation.
        total: How many were drawn.
        similarity: Largest edit similarity among them.
    """

    hits: int
    total: int
    similarity: float


@dataclass(frozen=True)
class Comparison:
    """A greedy completion beside the true continuation.

    Attributes:
        completion: Its token ids.
        similarity: Edit similarity of the tokens, in [0, 1].
        text_similarity: The same of the characters of both texts.
        common_run: Tokens of the longest run that both share.
        same_text: Whether the texts are the same, however they are cut into tokens.
    """

    completion: tuple[int, ...]
    similarity: float
    text_similarity: float
    common_run: int
    same_text: bool


@dataclass(frozen=True, eq=False)
class SpanResult:
    """One span asked for with a prefix of one length.

    Attributes:
        span: The span.
        prefix_length: Tokens it was asked with.
        reading: What the model expects at each token of the continuation.
        compared: The greedy completion; None where it was not asked for.
        drawn: Sampled completions; None where there are none.
    """

    span: TrainingSpan
    prefix_length: int
    reading: ContinuationReading
    compared: Comparison | None = None
    drawn: Drawn | None = None

    @property
    def exact(self) -> bool:
        """Whether greedy decoding gives the continuation, token by token."""
        return self.reading.exact

    @property
    def near_tie(self) -> bool:
        """Whether rounding may decide about it."""
        return self.reading.margin < NEAR_TIE

    @property
    def longest_guess(self) -> int:
        """The longest run of tokens that are the likeliest after the true ones before them."""
        longest = run = 0
        for hit in self.reading.hits:
            run = run + 1 if hit else 0
            longest = max(longest, run)
        return longest

    @property
    def chance(self) -> float:
        """Of sampling the whole continuation at temperature 1 in one draw."""
        return math.exp(self.reading.log_probability)

    def chance_in(self, draws: int) -> float:
        """Of sampling it at least once in so many draws."""
        chance = self.chance
        return 1.0 if chance >= 1 else -math.expm1(draws * math.log1p(-chance))

    def is_near(self, least: float) -> bool:
        """Whether the completion is at least so similar by tokens, or of the same text."""
        if self.exact:
            return True
        return self.compared is not None and (
            self.compared.similarity >= least or self.compared.same_text
        )


@dataclass(frozen=True)
class Extraction:
    """All results.

    Attributes:
        results: Of each span that was asked for, all prefix lengths, in the order of the spans.
        planned: How many spans there are.
        prefix_lengths: From short to long.
        seconds: Wall clock of reading and completing.
    """

    results: tuple[SpanResult, ...]
    planned: int
    prefix_lengths: tuple[int, ...]
    seconds: float

    @property
    def asked(self) -> int:
        """Spans that were asked for."""
        return len(self.results) // len(self.prefix_lengths)

    def at(self, prefix_length: int) -> tuple[SpanResult, ...]:
        """Results at one prefix length, in the order of the spans."""
        return tuple(each for each in self.results if each.prefix_length == prefix_length)

    @property
    def longest(self) -> tuple[SpanResult, ...]:
        """Results at the longest prefix."""
        return self.at(self.prefix_lengths[-1])

    def count(self, prefix_length: int, what: Callable[[SpanResult], bool]) -> int:
        """Spans of which something holds at one prefix length."""
        return sum(map(what, self.at(prefix_length)))
