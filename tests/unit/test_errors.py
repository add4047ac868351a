"""Messages of errors: whatever a file says, one line of plain characters is shown."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import MAX_MESSAGE, AuditorError, InvalidText

CONTROLS = {chr(code) for code in (*range(32), *range(127, 160))} | {"\u2028", "\u2029"}


@given(st.text(alphabet=st.one_of(st.sampled_from(sorted(CONTROLS)), st.characters())))
def test_a_message_is_one_line_without_control_characters(text: str) -> None:
    """A terminal would obey an escape, and a log would take a line end for another entry."""
    assert CONTROLS.isdisjoint(str(InvalidText("file:1", text)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines", "two lines"),
        ("two \r\n\n  lines", "two lines"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\tb\x00", "a\\x09b\\x00"),
        ("naïve \\n 'x'", "naïve \\n 'x'"),
    ],
)
def test_what_cannot_be_shown_is_spelt_out(text: str, shown: str) -> None:
    """Line ends become blanks, other control characters their numbers."""
    assert str(AuditorError(text)) == shown


def test_of_a_long_message_beginning_and_end_are_kept() -> None:
    """The place stands first, the way out last."""
    message = str(InvalidText("file:1", f"{'x' * 1_000_000}; write it anew"))
    assert len(message) < 2 * MAX_MESSAGE
    assert message.startswith("file:1: x")
    assert message.endswith("x; write it anew")


def test_an_error_from_another_process_says_the_same() -> None:
    """Checks run in processes of their own, and their errors are sent as pickles."""
    error = AuditorError("one\nline")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
