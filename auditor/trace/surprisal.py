"""The Belief Conflict Index as published, under the name of what it is: unigram surprisal.

`BCI(s) = - sum ln P(t)` over the tokens of a span, in nats, with P from the training text
(TraceAlign, 2508.02063). No policy enters it; it grows with the length of the span and the rarity
of its words. What it can say is how many chance occurrences of the span a text of N
independent tokens would hold: `ln E = ln N - BCI`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.trace.tokens import tokens_of

UNSEEN: Final = 1e-9
"""Probability of a token that the training text does not hold, in the published score."""

Smoother = Callable[[bytes], float]
"""The probability of a token, above 0."""


@dataclass(frozen=True)
class UnigramCounts:
    """How often tokens stand in a training text; see `auditor.trace.tokens`.

    Attributes:
        count: Of one token.
        total: Of all tokens together.
        types: How many different ones there are.
    """

    count: Callable[[bytes], int]
    total: int
    types: int

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> UnigramCounts:
        """Count the tokens of texts."""
        counts: Counter[bytes] = Counter()
        for text in texts:
            counts.update(tokens_of(text))
        return cls(lambda token: counts.get(token, 0), counts.total(), len(counts))

    def __post_init__(self) -> None:
        """Refuse a text without tokens, which gives no probabilities.

        Raises:
            ConfigurationError: There is no token.
        """
        if not self.total:
            raise ConfigurationError("no token to count; give text with words")

    def published(self) -> Smoother:
        """The share of the tokens, and `UNSEEN` for a token that was never seen."""
        return lambda token: self.count(token) / self.total or UNSEEN

    def add_k(self, k: float = 1.0) -> Smoother:
        """Counts with k added to each, that of one unknown token included.

        Raises:
            ConfigurationError: k is not above 0.
        """
        if not k > 0:
            raise ConfigurationError(f"k {k}; give a number above 0")
        whole = self.total + k * (self.types + 1)
        return lambda token: (self.count(token) + k) / whole

    def witten_bell(self) -> Smoother:
        """New tokens together get the share of tokens that were new when first seen."""
        kinds = self.types
        whole = self.total + kinds
        return lambda token: (self.count(token) or kinds) / whole


@dataclass(frozen=True)
class Surprisal:
    """The scores of one span.

    Attributes:
        tokens: How many tokens it has.
        bci: `- sum ln P(t)`, nats; the published score.
        density: The same for each token; 0 without tokens.
        kl: Divergence of the span's own token shares from P, `density` less their entropy.
    """

    tokens: int
    bci: float
    density: float
    kl: float

    def log10_e_value(self, total: int) -> float:
        """log10 of the occurrences that chance explains in a text of so many tokens."""
        return (math.log(total) - self.bci) / math.log(10)


class SurprisalScorer:
    """Scores of all spans of one token sequence.

    Args:
        tokens: The tokens.
        probability: Of each token, above 0.

    Raises:
        ConfigurationError: A probability is not in (0, 1].
    """

    def __init__(self, tokens: Sequence[bytes], probability: Smoother) -> None:
        self.tokens = list(tokens)
        values: list[float] = []
        for token in self.tokens:
            share = probability(token)
            if not 0 < share <= 1:
                raise ConfigurationError(f"probability {share} of the token {token[:40]!r}")
            values.append(-math.log(share))
        self.values: NDArray[np.float64] = np.array(values, dtype=np.float64)
        self._sums = np.concatenate([[0.0], np.cumsum(self.values)])

    def span(self, start: int = 0, stop: int | None = None) -> Surprisal:
        """The scores of tokens[start:stop].

        Raises:
            ConfigurationError: The span reaches outside of the tokens.
        """
        stop = self._checked(start, stop)
        count = stop - start
        bci = float(self._sums[stop] - self._sums[start])
        if not count:
            return Surprisal(0, 0.0, 0.0, 0.0)
        own = np.array(list(Counter(self.tokens[start:stop]).values())) / count
        entropy = -float((own * np.log(own)).sum())
        return Surprisal(count, bci, bci / count, bci / count - entropy)

    def max_token_risk(self, start: int = 0, stop: int | None = None) -> float:
        """The surprisal of the rarest token of tokens[start:stop], nats.

        Raises:
            ConfigurationError: The span is empty, or reaches outside of the tokens.
        """
        stop = self._checked(start, stop)
        if start == stop:
            raise ConfigurationError("an empty span has no rarest token")
        return float(self.values[start:stop].max())

    def _checked(self, start: int, stop: int | None) -> int:
        end = len(self.tokens) if stop is None else stop
        if not 0 <= start <= end <= len(self.tokens):
            raise ConfigurationError(
                f"tokens {start} to {end} of a text of {len(self.tokens)} tokens"
            )
        return end
