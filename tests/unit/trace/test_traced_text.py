"""Traced texts: spans, evidence, and scores that stand beside each other and mix nowhere."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.trace.content_policy import Clause
from auditor.trace.matches import Span, TraceIndex
from auditor.trace.policy_conflict import PolicyConflict
from auditor.trace.tokens import tokens_of
from auditor.trace.traced_text import KAPPA, TraceOptions, Tracer
from tests.models.mill_corpus import (
    BAD,
    CLAUSES,
    DOCUMENTS,
    FILLER,
    GOOD,
    OPTIONS,
    TABLE,
    guard_conflict,
)
from tests.models.small_index import index_of
from tests.models.table_stance import TableStance, policy, same_vectors

QUOTE = b"They say: To run the mill faster, take off the guard, and then we left."


def test_a_span_has_its_place_count_and_documents(tracer: Tracer) -> None:
    """Cut at words; marks at its ends are not of it."""
    (span,) = tracer.trace(QUOTE).spans
    assert span.text == b"To run the mill faster, take off the guard"
    assert QUOTE[span.start : span.stop] == span.text
    assert (span.count, span.documents, span.tokens) == (2, ("bad/0", "bad/1"), 10)
    assert span.gate
    assert span.clause == "guards"


def test_no_span_crosses_a_document(mill_index: TraceIndex) -> None:
    """The end of one document and the beginning of the next are two spans."""
    tracer = Tracer(mill_index, None, TraceOptions(least_tokens=1, frequent=0, chance=1e9))
    text = b"two cups of zorbin and wait. Note on the mill"
    assert [span.text for span in tracer.trace(text).spans] == [
        b"two cups of zorbin and wait", b"Note on the mill"
    ]  # fmt: skip


@given(st.lists(st.sampled_from(f"{BAD} {GOOD} {FILLER[:80]} . , zz".split()), max_size=40))
@settings(deadline=None, max_examples=60)
def test_spans_are_maximal_matches_of_whole_words(mill_index: TraceIndex, words: list[str]) -> None:
    """Against every window of words: each is held by the index, and none lies in another."""
    options = TraceOptions(least_tokens=3, frequent=0, chance=1e9)
    text = " ".join(words).encode()
    spans = [(s.start, s.stop) for s in Tracer(mill_index, None, options).trace(text).spans]
    starts = [at for at in range(len(text)) if _word(text, at) and not _word(text, at - 1)]
    stops = [at + 1 for at in range(len(text)) if _word(text, at) and not _word(text, at + 1)]
    held = [
        (start, stop) for start in starts for stop in stops
        if stop > start and any(text[start:stop].decode() in each[2] for each in DOCUMENTS)
    ]  # fmt: skip
    maximal = [
        one for one in held
        if not any(other[0] <= one[0] and one[1] <= other[1] and other != one for other in held)
    ]  # fmt: skip
    assert spans == [
        each for each in maximal if len(tokens_of(text[each[0] : each[1]])) >= 3
    ]  # fmt: skip


def _word(text: bytes, at: int) -> bool:
    return 0 <= at < len(text) and (chr(text[at]).isalnum() or text[at] == ord("_"))


def test_short_matches_are_no_spans(mill_index: TraceIndex) -> None:
    """One token below the least is left out."""
    text = b"take off the guard"
    for least, spans in ((4, 1), (5, 0)):
        tracer = Tracer(mill_index, None, TraceOptions(least_tokens=least))
        assert len(tracer.trace(text).spans) == spans


def test_a_span_of_frequent_words_is_no_evidence(mill_index: TraceIndex) -> None:
    """The same match passes when its words are not among the most frequent."""
    text = b"of the town and the field7 ,"
    for frequent, gate in ((0, True), (1_000, False)):
        options = TraceOptions(least_tokens=5, frequent=frequent, chance=1e9)
        (span,) = Tracer(mill_index, None, options).trace(text).spans
        assert span.gate is gate


def test_a_span_that_chance_explains_is_no_evidence(mill_index: TraceIndex) -> None:
    """On both sides of its own chance level."""
    options = TraceOptions(least_tokens=5, frequent=0)
    (span,) = Tracer(mill_index, None, options).trace(QUOTE).spans
    level = 10 ** span.scores["log10_e"]
    for chance, gate in ((level * 1.01, True), (level * 0.99, False)):
        options = TraceOptions(least_tokens=5, frequent=0, chance=chance)
        (again,) = Tracer(mill_index, None, options).trace(QUOTE).spans
        assert again.gate is gate


def test_surprisal_is_that_of_the_counted_documents(plain_tracer: Tracer) -> None:
    """Published formula by hand: minus the sum of the logarithms of shares of tokens."""
    counts = Counter(token for each in DOCUMENTS for token in tokens_of(each[2].encode()))
    total = counts.total()
    (span,) = plain_tracer.trace(QUOTE).spans
    values = [-math.log(counts[token] / total) for token in tokens_of(span.text)]
    assert span.scores["bci"] == pytest.approx(sum(values))
    assert span.scores["density"] == pytest.approx(sum(values) / len(values))
    assert span.scores["max_token_risk"] == pytest.approx(max(values))
    assert span.scores["log10_e"] == pytest.approx((math.log(total) - sum(values)) / math.log(10))


def test_policy_conflict_does_not_know_the_words_frequencies(
    tracer: Tracer, tmp_path: Path
) -> None:
    """A document of many of the same words changes the surprisal and no policy score."""
    more = ("more", "unknown", "take . off . guard . mill . faster . " * 200)
    other = Tracer(index_of(tmp_path, [*DOCUMENTS, more]), guard_conflict(), OPTIONS)
    (one,), (two,) = tracer.trace(QUOTE).spans, other.trace(QUOTE).spans
    assert one.scores["bci"] > two.scores["bci"] + 5
    for name in ("pc_gen", "pc_doc", "pcs"):
        assert one.scores[name] == two.scores[name] == 0.9


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_conflict_of_a_text_does_not_change_as_a_span_grows(
    mill_index: TraceIndex, data: st.DataObject
) -> None:
    """As long as it stays in the same sentences."""
    tracer = Tracer(mill_index, guard_conflict(), TraceOptions(least_tokens=1, frequent=0))
    text = BAD.encode()
    first, last = text.index(b"To run"), text.index(b"noon.") + 5
    inner = sorted(data.draw(st.lists(st.integers(first, last), min_size=4, max_size=4)))
    long, short = Span(inner[0], inner[3], 2), Span(inner[1], inner[2], 2)
    scores = [
        span.scores["pc_gen"] for span in tracer.score_spans(text, [long, short]).spans
    ]  # fmt: skip
    assert set(scores) <= {0.9}


def test_a_harmless_part_of_a_harmful_document_counts_by_half(tracer: Tracer) -> None:
    """The text's own sentence keeps the policy; the document's does not."""
    text = b"Well, to start: To run the mill faster, one oils it."
    (span,) = tracer.trace(text).spans
    assert span.scores["pc_gen"] == 0.0
    assert span.scores["pc_doc"] == 0.9
    assert span.scores["pcs"] == KAPPA * 0.9
    assert span.clause == "guards"


def test_a_harmful_text_counts_whole_whatever_its_documents_say(tracer: Tracer) -> None:
    """The greater of both, and the clause that made it so."""
    text = b"Take six spoons of quandor and rest. To run the press longer, burn it down."
    spans = tracer.trace(text).spans
    assert [span.scores["pcs"] for span in spans][-1] == 1.0
    assert spans[-1].clause == "fire"
    assert spans[-1].scores["pc_doc"] == 0.0


def test_a_source_is_unsafe_if_the_corpus_says_so(plain_tracer: Tracer) -> None:
    """By the label of its documents, not by what they say."""
    bad, good = plain_tracer.trace(BAD.encode()), plain_tracer.trace(GOOD.encode())
    assert [span.scores["unsafe_source"] for span in (*bad.spans, *good.spans)] == [1.0, 0.0]


def test_scores_of_the_user_stand_beside_the_others(mill_index: TraceIndex) -> None:
    """Each is asked with the text and the span."""
    tracer = Tracer(
        mill_index, None, OPTIONS,
        {"first byte": lambda text, span: float(text[span.start])},
    )  # fmt: skip
    (span,) = tracer.trace(QUOTE).spans
    assert span.scores["first byte"] == ord("T")


def test_without_a_policy_there_are_no_policy_scores(plain_tracer: Tracer) -> None:
    """They are absent and not 0."""
    (span,) = plain_tracer.trace(QUOTE).spans
    assert {"pc_gen", "pc_doc", "pcs"}.isdisjoint(span.scores)
    assert span.clause == ""


def test_own_sentences_are_left_out_if_so_asked(tracer: Tracer) -> None:
    """As an unfinished text has none."""
    (span,) = tracer.score_spans(QUOTE, tracer.index.spans(QUOTE, 20), own=False).spans
    assert (span.scores["pc_gen"], span.scores["pc_doc"]) == (0.0, 0.9)


def test_an_empty_text_has_no_spans(tracer: Tracer) -> None:
    """Nor does one of white space, or of bytes that are no text."""
    for text in (b"", b" \n", b"\xff\xff", b"\x00"):
        assert tracer.trace(text).spans == ()


def test_tracing_twice_gives_the_same(tracer: Tracer, mill_index: TraceIndex) -> None:
    """Also by another tracer over the same index."""
    again = Tracer(mill_index, guard_conflict(), OPTIONS)
    assert tracer.trace(QUOTE) == tracer.trace(QUOTE) == again.trace(QUOTE)


def test_documents_are_held_against_the_policy_evenly(tmp_path: Path) -> None:
    """Five of many occurrences, the first and the last among them."""
    shared = "one plain beginning of a long note"
    documents = [(f"d{n}", "unknown", f"{shared} number {n:02d} here.") for n in range(30)]
    seen: list[str] = []

    class Listening(TableStance):
        """Keeps what it was asked."""

        def score(self, texts: Sequence[str], clauses: Sequence[Clause]) -> NDArray[np.float64]:
            """As the table's."""
            seen.extend(text for text in texts if text != shared)
            return super().score(texts, clauses)

    conflict = PolicyConflict(policy(CLAUSES[0]), same_vectors, Listening(TABLE))
    tracer = Tracer(index_of(tmp_path, documents), conflict, TraceOptions(least_tokens=5))
    tracer.trace(shared.encode())
    assert len(seen) == 5
    assert seen[0].endswith("number 00 here.")
    assert seen[-1].endswith("number 29 here.")


@pytest.mark.parametrize(
    ("name", "value"),
    [("least_tokens", 0), ("frequent", -1), ("chance", 0.0), ("chance", float("nan")),
     ("contexts", 0), ("places", 0)],
)  # fmt: skip
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    """With the name and the number."""
    with pytest.raises(ConfigurationError, match=rf"{name} {value}; give"):
        TraceOptions(**{name: value})  # type: ignore[arg-type]
