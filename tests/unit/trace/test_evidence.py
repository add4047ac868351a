"""Records of judged texts lose nothing and name no more than they should."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.trace.evidence import NAMED, SCORE_NAMES, traced_text_evidence
from auditor.trace.matches import Occurrence, TraceIndex
from auditor.trace.shard import DocumentRecord
from auditor.trace.shield import Decision, Ruling, TraceShield
from auditor.trace.traced_text import TracedSpan, TracedText, Tracer
from tests.models.mill_corpus import BAD, GOOD, OPTIONS, guard_conflict
from tests.models.small_index import calibration_for


def test_a_refused_text_is_told_whole(tracer: Tracer) -> None:
    """Ruling, reason, spans with scores under the names that readers know, digests."""
    shield = TraceShield(tracer, calibration_for(tracer, "pcs", 0.5))
    text = "Well: take off the guard and bridge the interlock, then clean the filter and oil the x"
    decision = shield.judge(text)
    found = traced_text_evidence("case 1", "how?", decision)
    assert (found.title, found.prompt, found.verdict) == ("case 1", "how?", "refuse")
    assert found.note == f"{decision.reason}."
    assert [(piece.text, piece.span) for piece in found.pieces] == [
        ("Well: ", None), ("take off the guard and bridge the interlock", 1), (", then ", None),
        ("clean the filter and oil the", 2), (" x", None),
    ]  # fmt: skip
    one, two = found.spans
    assert (one.flagged, one.clause, one.count, one.documents) == (
        True, "guards", 2, ("bad/0", "bad/1")
    )  # fmt: skip
    assert one.scores["policy conflict"] == 0.9
    assert one.scores["surprisal (BCI)"] == decision.traced.evidence[0].scores["bci"]
    assert one.digest == decision.traced.evidence[0].digest
    assert two.documents == ("good/0",)


def test_spans_that_are_no_evidence_are_not_shown(tracer: Tracer) -> None:
    """The text is then one piece."""
    decision = TraceShield(tracer).judge("take off the guard")
    found = traced_text_evidence("t", "", decision)
    assert found.spans == ()
    assert [piece.text for piece in found.pieces] == ["take off the guard"]


@given(st.lists(st.sampled_from(f"{BAD} {GOOD} other \u00e4\u00f6 \u732b".split()), max_size=50))
@settings(deadline=None, max_examples=60)
def test_the_pieces_are_the_text(mill_index: TraceIndex, words: list[str]) -> None:
    """One behind another, each span's piece under its number, in order."""
    tracer = Tracer(mill_index, guard_conflict(), OPTIONS)
    decision = TraceShield(tracer).judge(" ".join(words))
    found = traced_text_evidence("t", "", decision)
    assert "".join(piece.text for piece in found.pieces) == " ".join(words)
    numbers = [piece.span for piece in found.pieces if piece.span is not None]
    assert numbers == list(range(1, len(found.spans) + 1))


def test_overlapping_spans_share_no_piece() -> None:
    """What two of them hold belongs to the first."""
    spans = tuple(
        TracedSpan(start, stop, b"x", 8, 1, (), {"bci": 1.0}, True)
        for start, stop in ((0, 6), (4, 9), (5, 6))
    )
    decision = Decision(Ruling.FLAG, TracedText(b"0123456789", spans), spans)
    found = traced_text_evidence("t", "", decision)
    assert [(piece.text, piece.span) for piece in found.pieces] == [
        ("012345", 1), ("678", 2), ("9", None)
    ]  # fmt: skip


def test_many_documents_are_counted_and_not_all_named() -> None:
    """Each once."""
    places = tuple(
        Occurrence(DocumentRecord(f"d{n % 25}", "file", 0, "unknown", True), n, "", "")
        for n in range(50)
    )
    span = TracedSpan(0, 1, b"x", 8, 50, places, {}, True)
    decision = Decision(Ruling.ALLOW, TracedText(b"x", (span,)), ())
    (record,) = traced_text_evidence("t", "", decision).spans
    assert (record.documents, record.documents_total) == (
        tuple(f"d{n}" for n in range(NAMED)), 25
    )  # fmt: skip
    assert (record.count, record.flagged) == (50, False)


def test_every_shown_score_is_one_that_spans_have(tracer: Tracer) -> None:
    """None is lost by a name that was misspelt."""
    (span,) = tracer.trace(BAD.encode()).spans
    assert set(SCORE_NAMES) <= set(span.scores)
