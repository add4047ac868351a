"""Documents are ranked by what of a text they hold, and equal ones stand together."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from auditor.trace.document_ranking import RankedDocument, rank_documents
from auditor.trace.matches import Occurrence
from auditor.trace.shard import DocumentRecord
from auditor.trace.traced_text import TracedSpan, TracedText, TraceOptions, Tracer
from tests.models.small_index import index_of


def span(start: int, stop: int, chance: float, *names: str, gate: bool = True) -> TracedSpan:
    """A span of a text that these documents hold."""
    places = tuple(
        Occurrence(DocumentRecord(name, "file", 0, "unknown", True), 0, "", "") for name in names
    )
    return TracedSpan(start, stop, b"x" * (stop - start), 8, len(names), places,
                      {"log10_e": chance}, gate)  # fmt: skip


def text(*spans: TracedSpan) -> TracedText:
    """A text of these spans."""
    return TracedText(b"x" * 100, spans)


def test_more_covered_bytes_rank_first() -> None:
    """Two spans of a document count together, what they share once."""
    found = rank_documents(text(span(0, 10, -5, "a"), span(5, 12, -5, "a"), span(50, 61, -9, "b")))
    assert found == [RankedDocument("a", 1, 12, -5, 1), RankedDocument("b", 2, 11, -9, 1)]


def test_then_the_least_likely_span_then_fewer_holders() -> None:
    """Of equal coverage."""
    found = rank_documents(text(
        span(0, 10, -5, "a"), span(20, 30, -7, "b"), span(40, 50, -5, "c", "d")
    ))  # fmt: skip
    assert [(each.document, each.rank) for each in found] == [
        ("b", 1), ("a", 2), ("c", 3), ("d", 3)
    ]  # fmt: skip


def test_spans_that_are_no_evidence_name_no_document() -> None:
    """However long."""
    assert rank_documents(text(span(0, 90, -50, "a", gate=False))) == []


def test_a_document_that_holds_a_span_twice_covers_it_once() -> None:
    """Occurrences are not coverage."""
    assert rank_documents(text(span(0, 10, -5, "a", "a")))[0] == RankedDocument("a", 1, 10, -5, 1)


@given(st.permutations([
    span(0, 10, -5, "a", "b"), span(5, 20, -6, "b", "c"), span(30, 50, -4, "c", "a"),
    span(60, 65, -9, "d"),
]))  # fmt: skip
def test_ranks_do_not_depend_on_the_order_of_spans(spans: list[TracedSpan]) -> None:
    """And count 1, 2, 3 without a gap."""
    found = rank_documents(text(*spans))
    assert found == rank_documents(text(*sorted(spans, key=lambda each: each.start)))
    assert sorted({each.rank for each in found}) == list(range(1, found[-1].rank + 1))


def test_copies_of_one_text_are_of_one_rank(tmp_path: Path) -> None:
    """In an index, whatever their number."""
    same = "a rare note about the zorbin mill of kelden"
    documents = [(f"copy/{n}", "unknown", same) for n in range(7)]
    index = index_of(tmp_path, [*documents, ("part", "unknown", same[:30])])
    tracer = Tracer(index, None, TraceOptions(least_tokens=4, frequent=0, chance=1e9))
    found = rank_documents(tracer.trace(same.encode()))
    assert {each.document for each in found if each.rank == 1} == {f"copy/{n}" for n in range(7)}
