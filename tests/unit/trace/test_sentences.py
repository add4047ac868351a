"""Sentences of texts: nothing is left out, whatever the text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.trace.sentences import MOST_WORDS, covering_sentences, sentence_ranges

TEXTS = st.text(alphabet="ab .!?\"')]\n\tä,", max_size=60).map(str.encode)


def inside(text: bytes) -> list[bytes]:
    """The sentences of a text."""
    return [text[start:stop] for start, stop in sentence_ranges(text)]


def test_sentences_end_at_marks_before_white_space() -> None:
    """A mark inside a number or an address ends nothing; quotes behind a mark are of it."""
    text = b'It costs 3.50 here. "Really?" Yes!! He left\n\nA new one'
    assert inside(text) == [
        b"It costs 3.50 here.", b'"Really?"', b"Yes!!", b"He left", b"A new one"
    ]  # fmt: skip


@given(TEXTS)
@settings(deadline=None)
def test_all_but_white_space_is_of_a_sentence(text: bytes) -> None:
    """In order, none overlapping, none beginning or ending with white space."""
    reached, left = 0, b""
    for start, stop in sentence_ranges(text):
        assert reached <= start < stop
        left += text[reached:start]
        assert text[start:stop].strip() == text[start:stop]
        reached = stop
    assert not (left + text[reached:]).strip()


def test_a_long_run_of_marks_is_read_in_one_go() -> None:
    """A model can be made to write dots for ever; each is looked at once."""
    text = b"." * 300_000 + b"a"
    assert sentence_ranges(text) == [(0, len(text))]


@given(st.integers(1, 400), st.data())
@settings(deadline=None, max_examples=50)
def test_no_word_of_a_long_sentence_is_hidden(words: int, data: st.DataObject) -> None:
    """All words of the sentence come back in pieces, wherever the part stands."""
    sentence = " ".join(f"w{number}" for number in range(words)).encode() + b"."
    start = data.draw(st.integers(0, len(sentence) - 1))
    stop = data.draw(st.integers(start + 1, len(sentence)))
    pieces = covering_sentences(b"Before. " + sentence + b" After.", start + 8, stop + 8)
    assert " ".join(pieces).encode() == sentence
    assert all(len(piece.split()) <= MOST_WORDS for piece in pieces)


def test_whole_sentences_are_given_for_a_part() -> None:
    """All that the part touches by a byte, none beside it."""
    text = b"One here. Two here. Three here."
    assert covering_sentences(text, 4, 12) == ["One here.", "Two here."]
    assert covering_sentences(text, 10, 11) == ["Two here."]
    assert covering_sentences(text, 9, 10) == []


def test_bytes_that_are_no_text_are_replaced() -> None:
    """A document may hold any bytes."""
    assert covering_sentences(b"caf\xe9 here.", 0, 3) == ["caf\N{REPLACEMENT CHARACTER} here."]
