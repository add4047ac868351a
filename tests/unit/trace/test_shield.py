"""The shield: rulings, what they name, calibrations that fit, and streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ConfigurationError
from auditor.trace import shield as shield_module
from auditor.trace.matches import TraceIndex
from auditor.trace.sentences import sentence_ranges
from auditor.trace.shield import REFUSAL, Ruling, TraceShield, suspicion, text_suspicion
from auditor.trace.traced_text import TraceOptions, Tracer
from tests.models.mill_corpus import BAD, CLAUSES, DOCUMENTS, GOOD, OPTIONS, guard_conflict
from tests.models.small_index import calibration_for, index_of
from tests.models.table_stance import TableStance

BAD_PART = "To run the mill faster, take off the guard and bridge the interlock before noon."
GOOD_PART = "To run the press longer, clean the filter and oil the bearing before dusk."
SENTENCES = (
    "Hello there! ", BAD_PART + " ", GOOD_PART + "\n\n", "Use two cups of zorbin. ", "Pi is 3.14. ",
    "We took ", "take off the guard and bridge ", '"Really?" ', "a ... b ", "Note on the press. ",
)  # fmt: skip


@pytest.fixture
def shield(tracer: Tracer) -> TraceShield:
    """Refuses spans whose policy conflict is above a half."""
    return TraceShield(tracer, calibration_for(tracer, "pcs", 0.5))


def test_a_conflicting_match_is_refused(shield: TraceShield) -> None:
    """With the span, its documents and its clause named, and none of the text."""
    decision = shield.judge(f"They say: {BAD_PART}")
    assert decision.ruling is Ruling.REFUSE
    assert decision.reason == (
        "bytes 10 to 89 match 2 places word for word, candidate sources bad/0, bad/1; clause guards"
    )


def test_a_match_that_keeps_the_policy_is_allowed(shield: TraceShield) -> None:
    """It is evidence, and below the threshold."""
    decision = shield.judge(GOOD_PART)
    assert decision.ruling is Ruling.ALLOW
    assert decision.traced.evidence
    assert decision.reason == "no span above the threshold"


@pytest.mark.parametrize("text", ["", "Something quite different.", "take off the guard"])
def test_a_text_without_evidence_is_said_to_be_that(shield: TraceShield, text: str) -> None:
    """It is not called harmless."""
    decision = shield.judge(text)
    assert decision.ruling is Ruling.NO_EVIDENCE
    assert decision.reason == "no span of the text qualifies as evidence in this index"


def test_without_calibration_nothing_is_refused(tracer: Tracer) -> None:
    """Evidence is flagged, whatever it says."""
    shield = TraceShield(tracer)
    assert [shield.judge(text).ruling for text in (BAD, GOOD, "x")] == [
        Ruling.FLAG, Ruling.FLAG, Ruling.NO_EVIDENCE
    ]  # fmt: skip
    assert list(shield.stream([BAD])) != [REFUSAL]
    assert [each.text for each in shield.guard(lambda prompts: [BAD])(["?"])] == [BAD]


def test_a_score_at_the_threshold_is_not_above_it(tracer: Tracer) -> None:
    """The threshold is the highest score that is let through."""
    for threshold, ruling in ((0.9, Ruling.ALLOW), (0.8999, Ruling.REFUSE)):
        shield = TraceShield(tracer, calibration_for(tracer, "pcs", threshold))
        assert shield.judge(BAD_PART).ruling is ruling


def test_deciding_spans_are_named_worst_first(tracer: Tracer) -> None:
    """The others are in the trace and not among them."""
    shield = TraceShield(tracer, calibration_for(tracer, "bci", 20.0))
    decision = shield.judge(f"Use two cups of zorbin. {BAD_PART} xx clean the filter and oil xx")
    scores = [span.scores["bci"] for span in decision.spans]
    assert scores == sorted(scores, reverse=True)
    assert len(decision.spans) >= 2
    assert set(decision.spans[0].documents) == {"bad/0", "bad/1"}


def test_a_guarded_model_says_the_refusal_instead(shield: TraceShield) -> None:
    """Text by text; the decision stands beside each."""
    guarded = shield.guard(lambda prompts: [BAD, GOOD])(["one", "two"])
    assert [each.text for each in guarded] == [REFUSAL, GOOD]
    assert [each.decision.ruling for each in guarded] == [Ruling.REFUSE, Ruling.ALLOW]


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("corpus index", {"index": "sha256:0"}), ("content policy", {"policy": "sha256:0"}),
        ("content policy", {"policy": ""}), ("stance scorer", {"stance": "nli, other"}),
        ("span length", {"least_tokens": 9}), ("chance level", {"chance": 0.1}),
        ("number of frequent tokens", {"frequent": 200}), ("number of contexts", {"contexts": 6}),
    ],
)  # fmt: skip
def test_a_calibration_of_something_else_is_refused(
    tracer: Tracer, what: str, changes: dict[str, object]
) -> None:
    """On one line that names what differs."""
    rule = calibration_for(tracer, "pcs", 0.5).model_copy(update=changes)
    with pytest.raises(ConfigurationError) as caught:
        TraceShield(tracer, rule)
    assert f"made with another {what}" in str(caught.value)
    assert str(caught.value).endswith("; calibrate again")
    assert "\n" not in str(caught.value)


def test_a_calibration_does_not_outlive_a_change_of_the_index(
    tracer: Tracer, tmp_path: Path
) -> None:
    """One more document makes another index."""
    rule = calibration_for(tracer, "pcs", 0.5)
    other = index_of(tmp_path, [*DOCUMENTS, ("more", "unknown", "more text")])
    with pytest.raises(ConfigurationError, match="another corpus index"):
        TraceShield(Tracer(other, guard_conflict(), OPTIONS), rule)


def test_a_score_that_spans_do_not_have_is_refused(plain_tracer: Tracer) -> None:
    """With those they have."""
    shield = TraceShield(plain_tracer, calibration_for(plain_tracer, "pcs", 0.5))
    with pytest.raises(ConfigurationError, match="spans have no score 'pcs'; they have bci, dens"):
        shield.judge(BAD)


def test_fewer_chance_occurrences_are_more_suspicious(plain_tracer: Tracer) -> None:
    """The sign of `log10_e` is turned; every match has the score `any_match`."""
    (span,) = plain_tracer.trace(BAD_PART.encode()).spans
    assert suspicion(span, "log10_e") == -span.scores["log10_e"] > 0
    assert suspicion(span, "any_match") == 1.0
    assert text_suspicion(plain_tracer.trace(b"x"), "bci") == float("-inf")


TEXTS = st.lists(st.sampled_from(SENTENCES), max_size=8).map("".join)


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces, cut at these places."""
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def by_sentences(shield: TraceShield, text: str) -> Iterator[str]:
    """What a stream lets out, by judging every beginning of whole sentences as a whole text."""
    begins = [start for start, _ in sentence_ranges(text.encode())][1:]
    reached = 0
    for end in (*begins, len(text)):
        if end == reached:
            continue
        if shield.judge(text[:end]).ruling is Ruling.REFUSE:
            yield REFUSAL
            return
        yield text[reached:end]
        reached = end


@given(text=TEXTS, places=st.lists(st.integers(0, 400), max_size=60))
@settings(deadline=None, max_examples=80)
def test_a_stream_does_not_depend_on_how_the_text_is_cut(
    mill_index: TraceIndex, text: str, places: list[int]
) -> None:
    """It lets out what judging whole beginnings of the text lets out."""
    tracer = Tracer(mill_index, guard_conflict(), OPTIONS)
    shield = TraceShield(tracer, calibration_for(tracer, "pcs", 0.5))
    assert "".join(shield.stream(cut(text, places))) == "".join(by_sentences(shield, text))


@given(text=TEXTS, places=st.lists(st.integers(0, 400), max_size=60))
@settings(deadline=None, max_examples=80)
def test_a_stream_refuses_what_the_whole_text_is_refused_for(
    mill_index: TraceIndex, text: str, places: list[int]
) -> None:
    """For a score that only grows with a span the ruling is the same."""
    tracer = Tracer(mill_index, guard_conflict(), OPTIONS)
    shield = TraceShield(tracer, calibration_for(tracer, "bci", 45.0))
    refused = shield.judge(text).ruling is Ruling.REFUSE
    out = "".join(shield.stream(cut(text, places)))
    assert out.endswith(REFUSAL) is refused
    assert refused or out == text


@given(text=TEXTS, places=st.lists(st.integers(0, 400), max_size=60))
@settings(deadline=None, max_examples=80)
def test_no_part_of_a_refused_sentence_is_let_out(
    mill_index: TraceIndex, text: str, places: list[int]
) -> None:
    """Piece by piece: what is out is never refused, and ends where a sentence does."""
    tracer = Tracer(mill_index, guard_conflict(), OPTIONS)
    shield = TraceShield(tracer, calibration_for(tracer, "pcs", 0.5))
    out = ""
    for piece in shield.stream(cut(text, places)):
        if piece == REFUSAL:
            assert BAD_PART not in out
            return
        out += piece
        assert text.startswith(out)
        assert shield.judge(out).ruling is not Ruling.REFUSE
    assert out == text


def test_a_stream_is_judged_far_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that began in an earlier sentence counts whole, as far as the tail reaches."""
    story = " ".join(f"Then came word{n} of zorbin{n}." for n in range(20))
    index = index_of(tmp_path, [("story", "unsafe", story), *DOCUMENTS])
    tracer = Tracer(index, None, TraceOptions(least_tokens=5, frequent=3))
    shield = TraceShield(tracer, calibration_for(tracer, "length", 60))
    out = list(shield.stream(story))
    assert out[-1] == REFUSAL
    assert 9 <= len(out) <= 12
    monkeypatch.setattr(shield_module, "TAIL_BYTES", 200)
    assert "".join(shield.stream([story])) == story


def test_what_is_not_text_is_judged_all_the_same(shield: TraceShield) -> None:
    """A lone surrogate of a careless tokenizer, and any bytes."""
    assert shield.judge(f"\ud800 {BAD_PART}").ruling is Ruling.REFUSE
    assert shield.judge(b"\xff\x00 " + BAD_PART.encode()).ruling is Ruling.REFUSE
    assert list(shield.stream(["\ud800 ", BAD_PART]))[-1] == REFUSAL


def test_the_policy_of_the_shield_is_the_calibrated_one(mill_index: TraceIndex) -> None:
    """Another weight of a clause is another policy; another table another scorer."""
    rule = calibration_for(Tracer(mill_index, guard_conflict(), OPTIONS), "pcs", 0.5)
    with pytest.raises(ConfigurationError, match="another content policy"):
        TraceShield(Tracer(mill_index, guard_conflict(0.5), OPTIONS), rule)
    conflict = guard_conflict()
    conflict.stance = TableStance({CLAUSES[0].id: {"x": 1.0}})
    with pytest.raises(ConfigurationError, match="another stance scorer"):
        TraceShield(Tracer(mill_index, conflict, OPTIONS), rule)
