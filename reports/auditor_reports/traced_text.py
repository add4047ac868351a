"""A traced completion, arranged for a page: runs of text, and a row for each span.

What belongs to a span is marked by its number, an underline and words, never by colour
alone. Pieces that follow each other and belong to one span are one run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from auditor.findings import AuditReport, Evidence, TextPiece, TracedSpan, TracedTextEvidence
from auditor_reports.number_text import number
from auditor_reports.sanitise import visible

ORIGIN: Final = "A match is verbatim; where the model has it from is not established."
NO_MATCH: Final = (
    "No qualifying match in this index. That does not mean that the text is safe, nor that the "
    "model was not trained on it."
)
SHOWN_IN_FULL: Final = (
    "This copy shows prompts and traced texts in full, as was asked for with --show-samples. "
    "Treat it as personal data until shown otherwise."
)
VERDICT_WORDS: Final = {"no_evidence": "no evidence"}

Samples = Mapping[str, TracedTextEvidence | str]
"""By digest of its file: a full record, or the line that says why it cannot be shown."""


@dataclass(frozen=True)
class Part:
    """A text as it is shown, and how many characters behind it are not."""

    text: str
    hidden: int


@dataclass(frozen=True)
class Run:
    """Parts of one span that follow each other, or of the text between spans.

    Attributes:
        span: Number of the span from 1, or None.
        first: Whether it is the span's first run, the one that links lead to.
    """

    span: int | None
    first: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Row:
    """One span in the table; `scores` in the order of `TracedText.score_names`."""

    number: int
    span: TracedSpan
    is_in_text: bool
    scores: tuple[str, ...]


@dataclass(frozen=True)
class TracedText:
    """A traced completion as a page shows it.

    Attributes:
        runs: The completion in order.
        rows: The spans, as many as are shown.
        score_names: Names of all scores, in the order they first appear in.
        shown: Characters of the completion on the page.
        total: All its characters, hidden ones included.
    """

    prompt: Part
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    score_names: tuple[str, ...]
    shown: int
    total: int


def gap(hidden: int) -> str:
    """What stands in the place of characters that are not shown."""
    return f"[{hidden:,} character{'s' if hidden != 1 else ''} not shown]"


def lay_out_traced_text(
    evidence: TracedTextEvidence, characters: int, pieces: int, rows: int
) -> TracedText:
    """Arrange a traced completion.

    Args:
        evidence: The record.
        characters: Most characters of one piece, after hostile ones are spelt out.
        pieces: Most pieces of the completion.
        rows: Most spans in the table.
    """
    parts = [_part(piece.text, piece.hidden, characters) for piece in evidence.pieces[:pieces]]
    runs = _runs(evidence.pieces[:pieces], [part for part, _ in parts])
    in_text = {run.span for run in runs}
    names = tuple(dict.fromkeys(name for span in evidence.spans for name in span.scores))
    return TracedText(
        prompt=_part(evidence.prompt, evidence.prompt_hidden, characters)[0],
        runs=runs,
        rows=tuple(
            Row(index, span, index in in_text, tuple(_score(span, name) for name in names))
            for index, span in enumerate(evidence.spans[:rows], start=1)
        ),
        score_names=names,
        shown=sum(taken for _, taken in parts),
        total=sum(len(piece.text) + piece.hidden for piece in evidence.pieces),
    )


def with_samples(report: AuditReport, samples: Samples) -> AuditReport:
    """The report with the full record of each traced completion that has one.

    One that should have one and cannot be shown says so in its note.
    """

    def change(evidence: Evidence) -> Evidence:
        if not isinstance(evidence, TracedTextEvidence) or evidence.blob is None:
            return evidence
        sample = samples.get(evidence.blob.digest)
        if sample is None:
            return evidence
        if isinstance(sample, TracedTextEvidence):
            return sample.model_copy(update={"blob": evidence.blob})
        note = f"The full text cannot be shown: {sample}. {evidence.note}".strip()
        return evidence.model_copy(update={"note": note})

    return report.model_copy(
        update={
            "results": tuple(
                result.model_copy(update={"answer": result.answer.with_evidence(change)})
                for result in report.results
            )
        }
    )


def _runs(pieces: Sequence[TextPiece], parts: Sequence[Part]) -> tuple[Run, ...]:
    runs: list[Run] = []
    seen: set[int | None] = {None}
    together = zip(pieces, parts, strict=True)
    for span, group in groupby(together, key=lambda pair: pair[0].span):
        runs.append(Run(span, span not in seen, tuple(part for _, part in group)))
        seen.add(span)
    return tuple(runs)


def _part(text: str, hidden: int, characters: int) -> tuple[Part, int]:
    """A piece as it is shown, and how many of its characters are."""
    taken = _fitting(text, characters)
    shown = visible(text[:taken])
    return Part(shown if taken == len(text) else shown + "…", hidden), taken


def _fitting(text: str, room: int) -> int:
    """How many characters of the text are shown in so much room, the ellipsis included."""
    if len(text) <= room and len(visible(text)) <= room:
        return len(text)
    used = 0
    for taken, character in enumerate(text):
        used += len(visible(character))
        if used >= room:
            return taken
    return len(text)


def _score(span: TracedSpan, name: str) -> str:
    return number(span.scores[name]) if name in span.scores else "\N{EN DASH}"
