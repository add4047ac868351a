"""The record of a repair is read as it was written, and nothing else is taken for one."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest

from auditor.errors import FileMissing, InvalidText
from auditor_reports.fix.json import fix_digest, load_fix, render_fix_json
from tests.golden.sample_fix import sample_fix


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(render_fix_json(sample_fix()))
    assert load_fix(path) == sample_fix()


def test_what_is_not_finite_comes_back(tmp_path: Path) -> None:
    """Valid JSON, with infinity as a string."""
    result = sample_fix()
    first, *rest = result.conditions
    drift, *others = first.comparisons
    wide = drift.model_copy(update={"after": drift.after.model_copy(update={"value": math.inf})})
    first = first.model_copy(update={"comparisons": (wide, *others)})
    result = result.model_copy(update={"conditions": (first, *rest)})
    path = tmp_path / "record.json"
    path.write_bytes(render_fix_json(result))
    assert b'"Infinity"' in path.read_bytes()
    assert load_fix(path) == result


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    content = render_fix_json(sample_fix())
    assert fix_digest(sample_fix()) == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ":1:1: not valid JSON: Expecting value"),
        (b"[1, 2]", ": no record of a repair (its format is not 'auditor-fix')"),
        (b'{"schema_version": "1"}', ": no record of a repair"),
        (b'{"format": "auditor-fix", "version": 2}', ": version 2, this auditor reads 1"),
        (b'{"format": "auditor-fix", "version": 1}', "at fix: Field required (and 5 more"),
        (b'{"format": "auditor-fix", "version": NaN}', "NaN is not valid JSON"),
        (b"\xff\xfe", ": not UTF-8 at byte 0"),
        (b"[" * 100_000, ": nested too deeply for a report"),
        (b"1" * 5_000, ": a number has more digits than anyone needs"),
    ],
)
def test_a_bad_record_is_one_clear_line(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(InvalidText) as error:
        load_fix(path)
    assert str(error.value).startswith(str(path))
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="record of a repair not found"):
        load_fix(tmp_path / "record.json")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """Its size is looked at first; the file is sparse."""
    path = tmp_path / "record.json"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(InvalidText, match="67,108,865 bytes; a report has at most 67,108,864"):
        load_fix(path)
