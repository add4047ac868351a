"""What every check must be, whichever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from auditor.check import CODE, Check
from auditor.errors import ConfigurationError
from auditor.registry import BUILT_IN_CHECKS, DuplicateCode, index_checks

ROOT = Path(__file__).parents[3]
EVERY_CHECK = pytest.mark.parametrize("check", BUILT_IN_CHECKS, ids=lambda check: check.code)


@EVERY_CHECK
def test_describes_itself_for_readers(check: Check[Any]) -> None:
    card = check.card()
    assert CODE.fullmatch(card.code)
    assert card.question.endswith("?")
    assert min(len(card.title), len(card.method), len(card.pass_does_not_mean)) > 10


@EVERY_CHECK
def test_is_written_down_in_specs(check: Check[Any]) -> None:
    text = (ROOT / "specs" / f"{check.code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {check.code}")
    for heading in ("Question", "Method", "Metrics", "pass does not mean"):
        assert heading.lower() in text.lower(), heading
    for name in check.params.model_fields:
        assert f"`{name}`" in text, name


@EVERY_CHECK
def test_documents_every_parameter(check: Check[Any]) -> None:
    for name, field in check.params.model_fields.items():
        assert field.description, name


@EVERY_CHECK
def test_refuses_unknown_parameters(check: Check[Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        check.params.model_validate({"no_such_parameter": 1})


def test_codes_are_unique() -> None:
    assert list(index_checks(BUILT_IN_CHECKS)) == [check.code for check in BUILT_IN_CHECKS]
    with pytest.raises(DuplicateCode, match="two checks carry the code AUD101"):
        index_checks([*BUILT_IN_CHECKS, BUILT_IN_CHECKS[0]])


def test_a_code_of_another_form_is_refused() -> None:
    from dataclasses import replace

    with pytest.raises(ConfigurationError, match="'X1' is not of the form AUDnnn"):
        replace(BUILT_IN_CHECKS[0], code="X1")
