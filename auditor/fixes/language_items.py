"""What a pruning of a language model is told: spans it recites, and text that should stay.

Files are those of AUD401, see `auditor.memorization.language.training_spans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.fixes.pruning_study import Split
from auditor.language.text_model import TextModel
from auditor.memorization.language.training_spans import (
    SpanShape,
    SpanSource,
    TrainingSpan,
    cut_spans,
    read_span_sources,
)


@dataclass(frozen=True, eq=False)
class LanguageItems:
    """What a model recites, and what it should go on to read.

    Attributes:
        memorised: Spans it recites, of at least two groups. Masks are located from all of them;
            settings are chosen by every second group and reported on the others.
        ordinary: Spans of ordinary text that it does not recite, best of the same form: masks are
            what memorised ones need and these do not. Held to what they were by learned masks.
        texts: Ordinary texts that masks are chosen by, and held like the spans.
        held_out: Ordinary texts that perplexity is reported on; none of the others.
        unseen: Spans of the form of memorised ones that the model never saw, of at least two
            groups: what an attack puts in by itself.
    """

    memorised: tuple[TrainingSpan, ...]
    ordinary: tuple[TrainingSpan, ...]
    texts: tuple[str, ...]
    held_out: tuple[str, ...]
    unseen: tuple[TrainingSpan, ...]

    def __post_init__(self) -> None:
        """Refuse sets that do not fit."""
        if not self.ordinary or not self.texts or not self.held_out:
            raise NothingToAudit(
                f"{len(self.ordinary)} ordinary spans, {len(self.texts)} texts to choose by and "
                f"{len(self.held_out)} to report on; give at least one of each"
            )
        for name, spans in (("memorised", self.memorised), ("unseen", self.unseen)):
            if (count := len({span.group for span in spans})) < 2:
                raise NothingToAudit(
                    f"{len(spans)} {name} spans of {count} groups; give at least two groups, for "
                    "half of them is kept apart"
                )
        if both := set(self.texts) & set(self.held_out):
            raise ConfigurationError(
                f"{len(both)} texts are chosen by and reported on; give other ones for each"
            )
        recited = set(map(_tokens, self.memorised))
        for name, spans in (("ordinary", self.ordinary), ("unseen", self.unseen)):
            if same := [span.name for span in spans if _tokens(span) in recited]:
                raise ConfigurationError(
                    f"{same[0]} is memorised and {name}; give other spans for each"
                )

    def of(self, split: Split) -> list[int]:
        """Numbers of the memorised spans of a split."""
        return halves(self.memorised)[0 if split is Split.CHOOSE else 1]

    def texts_of(self, split: Split) -> tuple[str, ...]:
        """The ordinary texts of a split."""
        return self.texts if split is Split.CHOOSE else self.held_out


@dataclass(frozen=True)
class LanguageFiles:
    """Where spans and texts are, as JSON lines.

    Attributes:
        memorised: Spans that the model recites.
        ordinary: Texts that give ordinary spans, and that masks are chosen by, whole.
        held_out: Ordinary texts that perplexity is reported on, whole; they may be short.
        never_memorised: Spans of the form of memorised ones that the model never saw.
    """

    memorised: Path
    ordinary: Path
    held_out: Path
    never_memorised: Path


def read_language_items(
    model: TextModel, files: LanguageFiles, shape: SpanShape, seed: int = 0
) -> LanguageItems:
    """What the files hold.

    Args:
        model: Whose tokenizer cuts spans.
        files: Where.
        shape: Tokens of each span.
        seed: Of places in documents.

    Raises:
        FileMissing, InvalidText, NothingToAudit: As for `read_span_sources`.
        ConfigurationError: As for `cut_spans`, or sets that do not fit.
    """
    memorised, ordinary, held_out, unseen = (
        read_span_sources(each)
        for each in (files.memorised, files.ordinary, files.held_out, files.never_memorised)
    )
    cut = [tuple(cut_spans(model, each, shape, seed)) for each in (memorised, ordinary, unseen)]
    texts, reported = (
        tuple(_text(model, source) for source in each) for each in (ordinary, held_out)
    )
    return LanguageItems(cut[0], cut[1], texts, reported, cut[2])


def _text(model: TextModel, source: SpanSource) -> str:
    content = source.content
    return content if isinstance(content, str) else model.decode(content)


def halves(spans: Sequence[TrainingSpan]) -> tuple[list[int], list[int]]:
    """Numbers of spans in two halves: every second group, in order of appearance, whole."""
    order = {group: at for at, group in enumerate(dict.fromkeys(span.group for span in spans))}
    found: tuple[list[int], list[int]] = ([], [])
    for number, span in enumerate(spans):
        found[order[span.group] % 2].append(number)
    return found


def _tokens(span: TrainingSpan) -> tuple[int, ...]:
    return (*span.prefix, *span.continuation)
