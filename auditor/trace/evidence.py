"""A judged text as a record for reports: its pieces, its spans, and what each of them scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from auditor.findings import TableEvidence, TextPiece, TracedTextEvidence
from auditor.findings import TracedSpan as SpanRecord
from auditor.trace.calibration import Calibration
from auditor.trace.shield import Decision
from auditor.trace.traced_text import TracedSpan

NAMED: Final = 10
"""Candidate sources that a record names."""
LISTED: Final = 50
"""Documents that a table lists."""
SCORE_NAMES: Final = {
    "bci": "surprisal (BCI)", "density": "surprisal per token", "log10_e": "log10 E",
    "pc_gen": "policy conflict, text", "pc_doc": "policy conflict, documents",
    "pcs": "policy conflict",
}  # fmt: skip


def traced_text_evidence(title: str, prompt: str, decision: Decision) -> TracedTextEvidence:
    """The record of a judged completion, with nothing left out.

    Args:
        title: Its heading.
        prompt: What the model was asked.
        decision: The ruling on the completion; only spans that pass the gate are shown.
    """
    spans = decision.traced.evidence
    return TracedTextEvidence(
        title=title, prompt=prompt, verdict=decision.ruling.value, note=f"{decision.reason}.",
        pieces=_pieces(decision.traced.text, spans),
        spans=tuple(_record(span, flagged=span in decision.spans) for span in spans),
    )  # fmt: skip


def _pieces(text: bytes, spans: Sequence[TracedSpan]) -> tuple[TextPiece, ...]:
    """The text in order; what two spans share belongs to the one that begins first."""
    found: list[TextPiece] = []
    reached = 0
    for number, span in enumerate(spans, 1):
        start = max(span.start, reached)
        if start > reached:
            found.append(_piece(text[reached:start], None))
        if span.stop > start:
            found.append(_piece(text[start : span.stop], number))
            reached = span.stop
    if reached < len(text):
        found.append(_piece(text[reached:], None))
    return tuple(found)


def _piece(inside: bytes, span: int | None) -> TextPiece:
    return TextPiece(text=inside.decode("utf-8", "replace"), span=span)


def _record(span: TracedSpan, *, flagged: bool) -> SpanRecord:
    documents = span.documents
    return SpanRecord(
        count=span.count, documents=documents[:NAMED], documents_total=len(documents),
        tokens=span.tokens, clause=span.clause, digest=span.digest, flagged=flagged,
        scores={shown: span.scores[name] for name, shown in SCORE_NAMES.items()
                if name in span.scores},
    )  # fmt: skip


def source_tables(decisions: Sequence[Decision]) -> tuple[TableEvidence, ...]:
    """Documents that match texts, those of most texts first; no table if there are none."""
    counts: dict[str, int] = {}
    for decision in decisions:
        names = {name for span in decision.traced.evidence for name in span.documents}
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    if not counts:
        return ()
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return (TableEvidence(
        title="Candidate sources of unsafe completions (verbatim matches)",
        columns=("document", "completions it matches"), rows=tuple(rows[:LISTED]),
        total_rows=len(rows),
    ),)  # fmt: skip


def score_tables(calibration: Calibration | None) -> tuple[TableEvidence, ...]:
    """A score beside its baselines, as they were when it was calibrated."""
    if calibration is None:
        return ()
    rows = [
        (each.score, round(each.area, 3), round(each.interval.lower, 3),
         round(each.interval.upper, 3))
        for each in sorted(calibration.areas, key=lambda area: -area.area)
    ]  # fmt: skip
    return (TableEvidence(
        title=f"Scores on the calibration texts. {calibration.verdict_on_length}",
        columns=("score", "area under the ROC curve", "lower 95 %", "upper 95 %"),
        rows=tuple(rows), total_rows=len(rows),
    ),)  # fmt: skip
