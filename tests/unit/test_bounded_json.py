"""JSON of strangers: what it may ask for is limited, and why it is not taken is said briefly."""

from __future__ import annotations

import pytest

from auditor.bounded_json import UnreadableJson, parse_json


def test_plain_json_is_read() -> None:
    """What is within all limits comes out as it was written."""
    assert parse_json(b'{"a": [1, 2.5, "x", null, true]}') == {"a": [1, 2.5, "x", None, True]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b"[" + b"1," * 20 + b"1]", "more than 10 values"),
        (b"1" * 5_000, "more digits than anyone needs"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"{", "not JSON"),
    ],
)
def test_a_hostile_text_is_not_taken(content: bytes, problem: str) -> None:
    """Every attack ends in the one error, whose message is short."""
    with pytest.raises(UnreadableJson, match=problem) as caught:
        parse_json(content, most_values=100_000 if len(content) > 1_000 else 10, constants=False)
    assert len(str(caught.value)) < 120


def test_doubles_and_constants_are_taken_where_they_are_allowed() -> None:
    """The last of two equal keys counts, and NaN is a number."""
    read = parse_json(b'{"a": 1, "a": NaN}', doubles=True)
    assert read["a"] != read["a"]
