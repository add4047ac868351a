"""Tokens are those of the pattern, and the compiled counter counts them all."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditor.trace.tokens import KIND, LOWER, count_tokens, hash_of, tokens_of


def counted(text: bytes, room: int = 4) -> dict[bytes, int]:
    """What the compiled counter says, each entry's hash and bytes checked."""
    array = np.frombuffer(text, dtype=np.uint8)
    found = {}
    for value, position, length, count in count_tokens(array, KIND, LOWER, room).tolist():
        token = text[position : position + length].lower()
        assert hash_of(token) == value
        assert token not in found
        found[token] = count
    return found


def test_tokens_are_words_and_marks_in_lower_case() -> None:
    assert tokens_of("The DOG_2, it's Über!\n\x00".encode()) == [
        b"the", b"dog_2", b",", b"it", b"'", b"s", "Über".encode(), b"!"
    ]  # fmt: skip


def test_separators_and_control_characters_are_of_no_token() -> None:
    assert tokens_of(b"a\xffb\x00\x7f \t\nc") == [b"a", b"b", b"c"]


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=200), st.text("aAbB_,;é \n", max_size=300).map(str.encode)))
@example(b"")
@example(b"A" * 50 + b" " + b"a" * 50)
def test_the_compiled_counter_counts_every_token(text: bytes) -> None:
    """Also while its room grows from four entries."""
    assert counted(text) == dict(Counter(tokens_of(text)))


def test_many_types_fit() -> None:
    text = b" ".join(b"word%d" % (number % 3_000) for number in range(10_000))
    assert counted(text) == dict(Counter(tokens_of(text)))
