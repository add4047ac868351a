"""What is left of a traced completion when it is shortened, and the file that holds it all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from auditor.errors import ConfigurationError
from auditor.findings import (
    Answer,
    Finding,
    Severity,
    TextEvidence,
    TextPiece,
    TracedSpan,
    TracedTextEvidence,
    Verdict,
)
from auditor.redaction import (
    MOST_CHARACTERS,
    full_record,
    read_full_record,
    redact,
    redact_answer,
)

SPAN = TracedSpan(
    count=2,
    documents=("a",),
    documents_total=2,
    tokens=9,
    digest="sha256:0",
    scores={"log10 E": -3},
)


def traced(*pieces: TextPiece, prompt: str = "") -> TracedTextEvidence:
    """A traced text of these pieces, with two spans."""
    return TracedTextEvidence(
        title="t", prompt=prompt, pieces=pieces, spans=(SPAN, SPAN), verdict="flag"
    )


def test_start_and_end_of_a_long_piece_stay_and_the_rest_is_counted() -> None:
    """Of eleven characters four stay: two at either end."""
    (whole,) = (TextPiece(text="abcdefghijk", span=1),)
    assert redact(traced(whole), 4).pieces == (
        TextPiece(text="ab", hidden=7, span=1),
        TextPiece(text="jk", span=1),
    )


def test_of_an_odd_number_the_start_has_one_more() -> None:
    """No character is shown twice, and none above the number."""
    shown = redact(traced(TextPiece(text="abcdef")), 5).pieces
    assert shown == (TextPiece(text="abc", hidden=1), TextPiece(text="ef"))


def test_what_is_short_enough_stays_as_it_is() -> None:
    """Exactly as many characters as may be shown are shown."""
    evidence = traced(TextPiece(text="a" * MOST_CHARACTERS), prompt="b" * MOST_CHARACTERS)
    assert redact(evidence) == evidence


def test_a_span_in_several_pieces_is_shortened_as_one() -> None:
    """Cutting a span into pieces does not bring more of it to light."""
    pieces = (TextPiece(text="abc", hidden=5, span=1), TextPiece(text="def", hidden=2, span=1))
    assert redact(traced(*pieces), 2).pieces == (
        TextPiece(text="a", hidden=9, span=1),
        TextPiece(text="f", hidden=2, span=1),
    )


def test_spans_beside_each_other_are_shortened_apart() -> None:
    """Each keeps its own start and end."""
    pieces = (TextPiece(text="abcd", span=1), TextPiece(text="efgh", span=2))
    texts = [(piece.text, piece.span) for piece in redact(traced(*pieces), 2).pieces]
    assert texts == [("a", 1), ("d", 1), ("e", 2), ("h", 2)]


def test_nothing_may_be_shown_at_all() -> None:
    """With 0 only the numbers of characters are left."""
    shown = redact(traced(TextPiece(text="abc", span=1), prompt="why"), 0)
    assert shown.pieces == (TextPiece(text="", hidden=3, span=1),)
    assert (shown.prompt, shown.prompt_hidden) == ("", 3)


def test_of_a_long_prompt_the_start_stays() -> None:
    """The rest is counted with what was left out before."""
    evidence = traced(prompt="abcdef").model_copy(update={"prompt_hidden": 10})
    shown = redact(evidence, 2)
    assert (shown.prompt, shown.prompt_hidden) == ("ab", 14)


def test_scores_and_names_stay() -> None:
    """Only texts of prompt and completion are shortened."""
    evidence = traced(TextPiece(text="a" * 500, span=1))
    shown = redact(evidence)
    kept = {"prompt", "prompt_hidden", "pieces"}
    assert shown.model_dump(exclude=kept) == evidence.model_dump(exclude=kept)


def test_a_negative_number_is_refused() -> None:
    """The message names it and what to give."""
    with pytest.raises(ConfigurationError, match=r"at most -1 characters.*give 0 or more"):
        redact(traced(), -1)


def test_an_answer_is_shortened_everywhere() -> None:
    """Also in findings; other evidence stays."""
    evidence = traced(TextPiece(text="a" * 500, span=1))
    plain = TextEvidence(title="t", text="b" * 500)
    finding = Finding(title="f", severity=Severity.LOW, description="d", evidence=(plain, evidence))
    answer = Answer(
        verdict=Verdict.VIOLATED, summary="s", findings=(finding,), evidence=(evidence, plain)
    )
    shown = redact_answer(answer)
    assert shown.evidence == (redact(evidence), plain)
    assert shown.findings[0].evidence == (plain, redact(evidence))


def test_the_full_record_reads_back() -> None:
    """Whatever characters are in it; the file is plain ASCII."""
    evidence = traced(TextPiece(text="a\ud800\u202e\x00\n" * 100, span=2), prompt="\x1b[31m")
    content = full_record(evidence)
    assert content.isascii()
    assert read_full_record(content) == evidence


def test_the_full_record_names_no_file() -> None:
    """It cannot know its own digest."""
    assert json.loads(full_record(traced()))["blob"] is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe\xff", "not valid JSON"),
        (b"{}", "at title: Field required"),
        (b"[]", "at its top: Input should be a valid dictionary"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_full_record_is_said_in_one_line(content: bytes, problem: str) -> None:
    """A file of another kind is not taken for one."""
    with pytest.raises(
        ConfigurationError, match=f"no record of a traced text: {problem}"
    ) as caught:
        read_full_record(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pieces": ({"text": "a", "span": 3},)}, "piece 0 belongs to span 3; .* from 1 to 2"),
        ({"pieces": ({"text": "a", "span": 0},)}, "piece 0 belongs to span 0"),
        ({"pieces": ({"text": "a", "hidden": -1},)}, "greater than or equal to 0"),
        ({"prompt_hidden": -1}, "greater than or equal to 0"),
        ({"spans": (SPAN.model_dump() | {"documents_total": 0},)}, "1 documents of 0"),
        ({"spans": (SPAN.model_dump() | {"scores": {"e": float("nan")}},)}, "finite number"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changes: dict[str, Any], problem: str) -> None:
    """Pieces name spans that are there, and numbers of characters are not negative."""
    with pytest.raises(ValidationError, match=problem):
        TracedTextEvidence.model_validate(traced().model_dump() | changes)
