"""Foreign records are written with their own names, and never as invalid JSON."""

from __future__ import annotations

import json

import pytest

from auditor_reports.aliased_json import aliased_json
from auditor_reports.oscal.models import Prop
from auditor_reports.sarif.models import Message


def test_fields_that_are_none_are_left_out() -> None:
    """A property without remarks has no such field."""
    assert "remarks" not in json.loads(aliased_json(Prop(name="a", value="b")))


def test_text_is_ascii() -> None:
    """Whatever a terminal or a reader takes for the encoding."""
    content = aliased_json(Message(text="é\u202e"))
    assert content.isascii()
    assert json.loads(content) == {"text": "é\u202e"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_without_a_literal_is_refused(value: float) -> None:
    """NaN and Infinity are no JSON."""

    class Number(Message):
        number: float

    with pytest.raises(ValueError, match="JSON compliant"):
        aliased_json(Number.model_construct(text="", number=value))
