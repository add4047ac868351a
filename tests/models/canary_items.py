"""What a pruning of a canary model is told: canaries that it gives, and what no canary is in."""

from __future__ import annotations

from typing import Final

from auditor.fixes.language_items import LanguageItems
from auditor.language.text_model import TextModel
from auditor.memorization.language.extraction import ExtractionOptions, measure_extraction
from auditor.memorization.language.training_spans import SpanShape, SpanSource, cut_spans
from tests.models.canary_lm import PREFIX, SECRET, Canary, CanaryCorpus, canary_spans
from tests.models.canary_text import ASK

UNREAD: Final = 200
"""Documents that the model never read, to choose by; as many to report on."""


def is_note(text: str) -> bool:
    """Whether a document ends with a code."""
    return " ".join(ASK) in text


def canary_items(model: TextModel, corpus: CanaryCorpus, unread: int = UNREAD) -> LanguageItems:
    """Canaries that are given exactly, beside as many ordinary notes that were read once."""
    strictly = ExtractionOptions((PREFIX,), compare=False)
    found = measure_extraction(model, canary_spans(model, corpus.canaries), strictly)
    given = tuple(each.span for each in found.longest if each.exact)
    notes = [text for text in corpus.ordinary if is_note(text)][: len(given)]
    sources = [
        SpanSource(f"note {at}", f"note {at}", f"note {at}", Canary("", 1, text).span)
        for at, text in enumerate(notes)
    ]
    return LanguageItems(
        given, tuple(cut_spans(model, sources, SpanShape(PREFIX, SECRET))),
        corpus.spare[:unread], corpus.spare[unread : 2 * unread],
        tuple(canary_spans(model, corpus.unplanted)),
    )  # fmt: skip
