"""Results of an extraction made by hand: which spans are exact is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from auditor.language.teacher_forcing import ContinuationReading
from auditor.memorization.language.extraction_record import Comparison, Extraction, SpanResult
from auditor.memorization.language.training_spans import TrainingSpan


def reading_of(hits: Sequence[bool], nats: float = 1.0) -> ContinuationReading:
    """A reading that finds these tokens likeliest; every token costs as many nats."""
    found = np.array(hits)
    return ContinuationReading(
        likeliest=np.arange(len(found)), hits=found, nats=np.full(len(found), nats),
        margins=np.where(found, 2.0, -3.0),
    )  # fmt: skip


def result_of(
    name: str, exact: bool, *, copies: int | None = None, length: int = 4, group: str = "",
    similarity: float | None = None, nats: float = 1.0,
) -> SpanResult:  # fmt: skip
    """A result of a continuation of three tokens, of which the last misses if it is not exact."""
    number = int.from_bytes(name.encode()[:3]) % 1_000
    span = TrainingSpan(
        name, group or name, tuple(range(number, number + 8)), (number, 1, 2), copies
    )
    compared = None
    if similarity is not None:
        compared = Comparison((number, 1, 3), similarity, similarity, 2, False)
    return SpanResult(span, length, reading_of([True, True, exact], nats), compared)


def extraction_of(
    results: Sequence[SpanResult], planned: int = 0, lengths: tuple[int, ...] = (4,)
) -> Extraction:
    """An extraction of these results, which come span by span."""
    return Extraction(tuple(results), planned or len(results) // len(lengths), lengths, 0.0)
