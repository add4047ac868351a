"""Reading JSON lines: every object once, and one line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import FileMissing, InvalidText
from auditor.json_lines import read_json_lines

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    objects=st.lists(st.dictionaries(TEXT, TEXT, max_size=3), max_size=5), ascii_only=st.booleans()
)
def test_what_was_written_is_read(
    objects: list[dict[str, str]], ascii_only: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In order, with its line, whatever other line ends its strings hold."""
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    lines = [json.dumps(each, ensure_ascii=ascii_only) for each in objects]
    path.write_bytes("\n\n".join(lines).encode())
    found = list(read_json_lines(path, "texts"))
    assert [each.fields for each in found] == objects
    assert [each.number for each in found] == list(range(1, 2 * len(objects), 2))


def test_a_byte_order_mark_is_no_part_of_the_first_object(tmp_path: Path) -> None:
    """As some editors write it."""
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": "b"}')
    (line,) = read_json_lines(tmp_path / "a.jsonl", "texts")
    assert line.text("a") == "b"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a": 1, "a": 2}', "not a JSON object on one line (the key 'a' stands twice"),
        ('{"a": ' + "[" * 100_000 + "}", "not a JSON object on one line (nested too deeply)"),
        (
            '{"a": [' + "1," * 1_000_001 + "1]}",
            "not a JSON object on one line (more than 1000000 values",
        ),
        (
            '{"a": ' + "1" * 5_000 + "}",
            "not a JSON object on one line (a number has more digits than anyone needs",
        ),
        ("[]", "not a JSON object on one line"), ("{", "not a JSON object on one line"),
        ("[" * 100_000, "not a JSON object on one line"),
        (r'{"a": "\ud800"}', "a lone surrogate in 'a'"), (r'{"\ud800": 1}', "a lone surrogate"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, line: str, problem: str) -> None:
    """File, line, problem."""
    (tmp_path / "a.jsonl").write_text(f"{{}}\n{line}\n")
    with pytest.raises(InvalidText) as caught:
        list(read_json_lines(tmp_path / "a.jsonl", "texts"))
    assert str(caught.value).startswith(f"{tmp_path / 'a.jsonl'}:2: {problem}")


def test_a_field_of_another_kind_and_a_missing_file_are_named(tmp_path: Path) -> None:
    """Neither is taken for an empty text."""
    (tmp_path / "a.jsonl").write_text('{"a": 3}')
    (line,) = read_json_lines(tmp_path / "a.jsonl", "texts")
    with pytest.raises(InvalidText, match="no field 'a' with a string"):
        line.text("a")
    with pytest.raises(FileMissing, match="texts not found"):
        list(read_json_lines(tmp_path / "none.jsonl", "texts"))
