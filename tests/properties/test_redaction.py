"""Laws of shortening traced completions, for whatever pieces they have."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from auditor.findings import TextPiece, TracedSpan, TracedTextEvidence
from auditor.redaction import redact

SPANS = 3
PIECES = st.lists(
    st.builds(
        TextPiece,
        text=st.text(max_size=30),
        hidden=st.integers(0, 5),
        span=st.none() | st.integers(1, SPANS),
    ),
    max_size=8,
).map(tuple)


def traced(pieces: tuple[TextPiece, ...], prompt: str = "") -> TracedTextEvidence:
    """A traced text of these pieces."""
    span = TracedSpan(count=1, documents_total=1, tokens=1, digest="sha256:0")
    return TracedTextEvidence(
        title="t", prompt=prompt, pieces=pieces, spans=(span,) * SPANS, verdict="flag"
    )


def lengths(pieces: tuple[TextPiece, ...]) -> list[tuple[int | None, int, int]]:
    """Of each run of one span (or of none): the span, characters shown, characters in all."""
    found = []
    for span, run in groupby(pieces, key=lambda piece: piece.span):
        together = list(run)
        shown = sum(len(piece.text) for piece in together)
        found.append((span, shown, shown + sum(piece.hidden for piece in together)))
    return found


@given(PIECES, st.text(max_size=60), st.integers(0, 40))
def test_no_character_is_lost_or_invented(
    pieces: tuple[TextPiece, ...], prompt: str, most: int
) -> None:
    """Every run keeps its span and its number of characters, shown and hidden together."""
    evidence = traced(pieces, prompt)
    shown = redact(evidence, most)
    assert [(span, total) for span, _, total in lengths(shown.pieces)] == [
        (span, total) for span, _, total in lengths(pieces)
    ]
    assert len(shown.prompt) + shown.prompt_hidden == len(prompt)


@given(PIECES, st.text(max_size=60), st.integers(0, 40))
def test_no_run_shows_more_than_it_may(
    pieces: tuple[TextPiece, ...], prompt: str, most: int
) -> None:
    """At most so many characters of the prompt, of each span and of each text between."""
    shown = redact(traced(pieces, prompt), most)
    assert all(count <= most for _, count, _ in lengths(shown.pieces))
    assert len(shown.prompt) <= most


@given(PIECES, st.integers(0, 40))
def test_shortening_again_changes_nothing(pieces: tuple[TextPiece, ...], most: int) -> None:
    """So that a check may shorten, and the runner still sees to it."""
    once = redact(traced(pieces), most)
    assert redact(once, most) == once


@given(PIECES, st.integers(0, 40))
def test_what_is_shown_stood_there(pieces: tuple[TextPiece, ...], most: int) -> None:
    """Each text is the start or the end of one of the pieces of its span."""
    for piece in redact(traced(pieces), most).pieces:
        own = [whole.text for whole in pieces if whole.span == piece.span]
        assert any(text.startswith(piece.text) or text.endswith(piece.text) for text in own)
