"""Spans of a training text of which it is known how often it stands there: drawn, not given.

Most text stands in a corpus once, and what a model says word for word mostly stands there often.
So spans may be taken evenly over doublings of their copies instead of as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.language.text_model import TextModel
from auditor.memorization.language.training_spans import (
    SpanShape,
    SpanSource,
    TrainingSpan,
    cut_spans,
    require_context,
)

CountCopies = Callable[[str], int]
"""How often a text stands in the training text."""


def sample_spans(
    model: TextModel, sources: Sequence[SpanSource], shape: SpanShape, count: int,
    copies_of: CountCopies, *, seed: int = 0, evenly: bool = True,
) -> list[TrainingSpan]:  # fmt: skip
    """So many different spans of texts with their copies, or as many as there are.

    Texts that are too short, that the tokenizer changes, or of which no copy is counted are passed
    over.

    Args:
        model: Whose tokenizer cuts them.
        sources: The texts, in the order in which they are preferred.
        shape: Tokens of each span.
        count: Spans.
        copies_of: Counts the copies of a span's text.
        seed: Of places that are drawn.
        evenly: Whether each doubling of copies gives as many spans, as far as it has them.

    Raises:
        ConfigurationError: The spans are too long for the model.
        NothingToAudit: No text gives a span.
    """
    require_context(model, shape)
    found: dict[tuple[int, ...], TrainingSpan] = {}
    for source in sources:
        try:
            [span] = cut_spans(model, [source], shape, seed)
        except ConfigurationError:
            continue
        copies = copies_of(model.decode([*span.prefix, *span.continuation]))
        if copies:
            found.setdefault((*span.prefix, *span.continuation), replace(span, copies=copies))
    if not found:
        raise NothingToAudit(
            f"none of {len(sources)} texts gives a span of {shape.tokens} tokens that the "
            "tokenizer keeps as it is; shorten prefix or continuation"
        )
    spans = list(found.values())
    return _evenly(spans, count) if evenly else spans[:count]


def with_copies(
    model: TextModel, spans: Sequence[TrainingSpan], copies_of: CountCopies
) -> list[TrainingSpan]:
    """The same spans; copies are counted where they were not known."""
    return [
        span if span.copies is not None
        else replace(span, copies=copies_of(model.decode([*span.prefix, *span.continuation])))
        for span in spans
    ]  # fmt: skip


def _evenly(spans: Sequence[TrainingSpan], count: int) -> list[TrainingSpan]:
    """Some of the spans: those of each doubling of copies take turns, rarest copies first."""
    levels: dict[int, list[TrainingSpan]] = {}
    for span in spans:
        levels.setdefault((span.copies or 0).bit_length(), []).append(span)
    turns = [levels[level] for level in sorted(levels)]
    taken: list[TrainingSpan] = []
    for turn in range(max(map(len, turns))):
        taken += [level[turn] for level in turns if turn < len(level)]
    return taken[:count]
