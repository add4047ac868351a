"""Records of repairs by strangers: read whole, or refused in one line; names never become paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import InvalidText
from auditor_reports.fix.json import load_fix, render_fix_json
from auditor_reports.fix.markdown import render_fix_markdown
from auditor_reports.fix.page import render_fix
from auditor_reports.fix.standing import contradictions
from auditor_reports.html_environment import MAX_BYTES
from tests.golden.sample_fix import sample_fix

GOOD = render_fix_json(sample_fix()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format":"auditor-fix","version":1,"parameters":' + '{"a":' * 50_000,
        GOOD[: len(GOOD) // 2],
        GOOD.replace('"version": 1', '"version": ' + "1" * 5_000),
        GOOD.replace('"version": 1', '"version": 1e999'),
        GOOD.replace('"version": 1', '"version": ' + "[" * 50 + "]" * 50),
        GOOD.replace('"format": "auditor-fix"', '"format": ["auditor-fix"]'),
        GOOD.replace('"conditions": [', '"conditions": [' + "[]," * 10_000),
    ],
    ids=["deep", "deep-within", "cut", "digits", "infinite", "nested", "another-type", "many"],
)
def test_a_record_that_no_auditor_writes_is_one_line(tmp_path: Path, text: str) -> None:
    """Deep, cut off, of endless numbers, of other types."""
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(InvalidText) as caught:
        load_fix(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def changed(value: Any, number: object) -> Any:
    """The record with this in place of every number but its version."""
    if isinstance(value, dict):
        return {
            name: inner if name == "version" else changed(inner, number)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [changed(inner, number) for inner in value]
    return number if type(value) is float else value


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", 5e-324, 1.7e308, -1.0, 10**18])
def test_pages_of_any_numbers_are_made(tmp_path: Path, number: object) -> None:
    """Sizes that no measurement has, and what is no number."""
    path = tmp_path / "record.json"
    path.write_text(json.dumps(changed(json.loads(GOOD), number)))
    result = load_fix(path)
    assert all(text.isprintable() for text in contradictions(result))
    assert render_fix(result)
    assert render_fix_markdown(result)


def test_names_that_are_paths_and_long_lists_stay_words(tmp_path: Path) -> None:
    """Nothing is read or written for them, and the page stays within its limit."""
    told = json.loads(GOOD)
    path, victim = tmp_path / "record.json", tmp_path / "victim"
    victim.write_text("precious")
    told["parameters"] = {f"{victim}{number}": str(victim) for number in range(5_000)}
    told["reasons"] = [f"../victim {number}" for number in range(5_000)]
    path.write_text(json.dumps(told))
    before = sorted(tmp_path.rglob("*"))
    page = render_fix(load_fix(path))
    assert len(page) <= MAX_BYTES
    assert "precious" not in page
    assert sorted(tmp_path.rglob("*")) == before
