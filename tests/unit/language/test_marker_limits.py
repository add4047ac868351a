"""Markers that a user brings: every plain one is taken, and none that may search for ever."""

from __future__ import annotations

import pytest

from auditor.language.marker_limits import compile_marker
from auditor.language.refusal_markers import CANDIDATES


@pytest.mark.parametrize("marker", CANDIDATES)
def test_markers_that_are_shipped_are_taken(marker: str) -> None:
    """The limits fit what markers are for."""
    assert compile_marker(marker).pattern == marker


@pytest.mark.parametrize(
    "marker", ["(a+)+$", "(a|a)*$", "(?:a*b?)*c", "((a+)b)+", "(?:x(?:y|yz)+)+", "(a{1,9})*"]
)
def test_a_repetition_of_choices_is_refused(marker: str) -> None:
    """On a text that nearly fits, the number of ways doubles with every character."""
    with pytest.raises(ValueError, match="divided in several ways"):
        compile_marker(marker)


@pytest.mark.parametrize("marker", ["(", "[", "(" * 100_000, "a{99999999999}", "*"])
def test_what_is_no_expression_is_refused(marker: str) -> None:
    """Nesting without end and counts beyond all ranges included."""
    with pytest.raises(ValueError, match="no regular expression"):
        compile_marker(marker)


@pytest.mark.parametrize("marker", ["i can.?not", "(?:as an? )?(?:ai|model)", "(?:ha){2,}", "a+b*"])
def test_plain_markers_are_taken(marker: str) -> None:
    """Repeating what has one form is quick."""
    assert compile_marker(marker).pattern == marker
