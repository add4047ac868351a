"""Which documents of an index hold most of a text: candidate sources, ranked.

By the bytes of the text that a document's matches cover, then by how little chance explains its
best span, then by how few documents hold that span. Documents that tie are of one rank, so that
copies of one text stand and fall together; the first k ranks are a set that may hold more than k
documents.
"""

from __future__ import annotations

from dataclasses import dataclass

from auditor.trace.traced_text import TracedSpan, TracedText


@dataclass(frozen=True)
class RankedDocument:
    """A candidate source.

    Attributes:
        document: Its name.
        rank: From 1; documents that tie share it, and the next rank is one higher.
        covered: Bytes of the text that its matches cover.
        log10_e: Of its least likely span.
        holders: Documents that hold that span, as many as were looked up.
    """

    document: str
    rank: int
    covered: int
    log10_e: float
    holders: int


def rank_documents(traced: TracedText) -> list[RankedDocument]:
    """The documents that a text's evidence names, best first."""
    spans_of: dict[str, list[TracedSpan]] = {}
    for span in traced.evidence:
        for name in span.documents:
            spans_of.setdefault(name, []).append(span)
    keyed = []
    for name, spans in spans_of.items():
        best = min(spans, key=lambda span: (span.scores["log10_e"], len(span.documents)))
        keyed.append((
            -_covered(spans), best.scores["log10_e"], len(best.documents), name
        ))  # fmt: skip
    keyed.sort()
    ranked: list[RankedDocument] = []
    rank, before = 0, None
    for covered, chance, holders, name in keyed:
        if (covered, chance, holders) != before:
            rank, before = rank + 1, (covered, chance, holders)
        ranked.append(RankedDocument(name, rank, -covered, chance, holders))
    return ranked


def _covered(spans: list[TracedSpan]) -> int:
    """Bytes in the union of spans."""
    total = reached = 0
    for span in sorted(spans, key=lambda span: span.start):
        total += max(0, span.stop - max(span.start, reached))
        reached = max(reached, span.stop)
    return total
