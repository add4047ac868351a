"""Exposure of planted secrets: how far up a secret stands among random ones, by its loss.

Of r candidates, the secret among them, exposure is `log2 r - log2 rank`, the rank by rising loss
(Carlini et al. 2019, "The Secret Sharer", arXiv 1802.08232). The candidates are drawn, so it is
at most `log2 r`. A secret that was never seen stands anywhere: on average at 1 / ln 2 = 1.44 bits
for many candidates.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auditor.errors import ConfigurationError
from auditor.language.text_model import TextModel
from auditor.memorization.language.extraction import prompt_of
from auditor.memorization.language.training_spans import TrainingSpan


@dataclass(frozen=True)
class Exposure:
    """A secret among candidates.

    Attributes:
        rank: 1 for the likeliest; of equally likely ones the secret is the last.
        candidates: How many there are, the secret included.
    """

    rank: int
    candidates: int

    @property
    def bits(self) -> float:
        """In [0, log2 of the candidates]."""
        return math.log2(self.candidates) - math.log2(self.rank)


def alphabet_of(spans: Sequence[TrainingSpan]) -> tuple[int, ...]:
    """The tokens that continuations are made of, each once, in order."""
    return tuple(sorted({token for span in spans for token in span.continuation}))


def random_candidates(
    span: TrainingSpan, alphabet: Sequence[int], count: int, seed: int = 0
) -> list[tuple[int, ...]]:
    """Continuations of as many tokens, each drawn from the alphabet; the true one is not drawn.

    Args:
        span: Whose continuation is to be ranked.
        alphabet: Tokens that a secret may be made of, each once.
        count: How many.
        seed: Of the drawing, together with the span.

    Raises:
        ConfigurationError: So many different ones do not exist.
    """
    length = len(span.continuation)
    if count >= len(alphabet) ** length:
        raise ConfigurationError(
            f"{count} candidates of {length} tokens from {len(alphabet)}; ask for fewer"
        )
    key = hashlib.sha256(f"{seed}:{span.name}:{span.continuation}".encode()).digest()
    source = np.random.default_rng(int.from_bytes(key))
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        drawn = source.integers(len(alphabet), size=(count, length))
        rows = (tuple(alphabet[at] for at in row) for row in drawn)
        found.update(dict.fromkeys(row for row in rows if row != span.continuation))
    return list(found)[:count]


def measure_exposure(
    model: TextModel,
    spans: Sequence[TrainingSpan],
    *,
    prefix_length: int,
    alphabet: Sequence[int],
    candidates: int = 255,
    batch_size: int = 64,
    seed: int = 0,
) -> list[Exposure]:
    """Exposure of each span's continuation behind its prefix, in order.

    Args:
        model: The model.
        spans: Whose continuations are secrets drawn from the alphabet.
        prefix_length: Tokens of the prefix.
        alphabet: Tokens that a secret may be made of.
        candidates: Random ones for each, beside the secret.
        batch_size: Texts at once.
        seed: Of the drawing.

    Raises:
        ConfigurationError: Too many candidates, or too long a prefix.
    """
    if candidates < 1:
        raise ConfigurationError(f"{candidates} candidates; give at least 1")
    found = []
    for span in spans:
        rivals = [span.continuation, *random_candidates(span, alphabet, candidates, seed)]
        prompt = prompt_of(model, span, prefix_length)
        readings = model.read_continuations([prompt] * len(rivals), rivals, batch_size=batch_size)
        own, *others = (each.log_probability for each in readings)
        found.append(Exposure(1 + sum(other >= own for other in others), len(rivals)))
    return found
