"""Prompts from files that people made: every slip is one line with its place."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import (
    AuditorError,
    ConfigurationError,
    FileMissing,
    InvalidText,
    NothingToAudit,
)
from auditor.language import prompts as module
from auditor.language.prompts import Prompt, read_prompts


def written(folder: Path, content: str | bytes, name: str = "prompts.csv") -> Path:
    """A file of this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problem_of(path: Path, *, text_column: str | None = None) -> str:
    """What is said about a file."""
    with pytest.raises(AuditorError) as caught:
        read_prompts(path, text_column=text_column)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_table_with_marks_and_quotes_is_read(tmp_path: Path) -> None:
    """A byte order mark, commas and line ends in quotes, columns in any order and case."""
    text = '\ufeffCategory,Goal,note\r\nfraud,"say ""a, b""\nnow",x\r\n,plain,\r\n'
    assert read_prompts(written(tmp_path, text)) == [
        Prompt('say "a, b"\nnow', "fraud", "line 3"), Prompt("plain", "", "line 4")
    ]  # fmt: skip


def test_json_lines_are_read(tmp_path: Path) -> None:
    """Numbers as categories, groups, empty lines, and line ends that JSON allows in strings."""
    lines = (
        '{"prompt": "a\u2028b\x85c", "category": 3, "group": "g"}\n\n'
        '{"prompt": "d", "category": null}\r\n{"prompt": " "}\n{"prompt": null}'
    )
    assert read_prompts(written(tmp_path, lines, "p.JSONL")) == [
        Prompt("a\u2028b\x85c", "3", "g"), Prompt("d", "", "line 3")
    ]  # fmt: skip


TEXTS = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="\r\x00"), min_size=1
).filter(str.strip)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory,
                                 rows: list[tuple[str, str]]) -> None:  # fmt: skip
    """Tables by the csv module and JSON lines, whatever the characters."""
    folder = tmp_path_factory.mktemp("prompts")
    table = io.StringIO()
    csv.writer(table).writerows([("prompt", "category"), *rows])
    lines = "\n".join(
        json.dumps({"prompt": text, "category": kind}, ensure_ascii=False) for text, kind in rows
    )
    for path in (written(folder, table.getvalue()), written(folder, lines, "p.jsonl")):
        found = read_prompts(path)
        assert [(each.text, each.category) for each in found] == [
            (text.strip(), kind) for text, kind in rows
        ]


def test_columns_can_be_named(tmp_path: Path) -> None:
    """Instead of the usual ones."""
    path = written(tmp_path, "prompt,ask,kind,type\na,b,c,d\n")
    assert read_prompts(path, text_column="ask", category_column="kind") == [
        Prompt("b", "c", "line 2")
    ]
    assert "has no column 'x'; it has prompt, ask, kind, type" in problem_of(path, text_column="x")


def test_a_table_without_prompts_says_what_it_has(tmp_path: Path) -> None:
    """With the way out; names of columns stay on one line, and many are not all told."""
    assert "no column with prompts among id, a\\nb; name it with --prompt-column" in problem_of(
        written(tmp_path, 'id,"a\nb"\n1,2\n')
    )
    many = ",".join(f"c{n}" for n in range(500))
    assert "c19 and 480 more" in problem_of(written(tmp_path, f"{many}\n{many}\n"))
    assert "no column with prompts" in problem_of(written(tmp_path, '{"prompt": ["a"]}', "p.jsonl"))


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        ("prompt,b\na\n", ":2: ", "another number of fields"),
        ("prompt\na,b\n", ":2: ", "another number of fields"),
        ('prompt\n"a', ":2: ", "no CSV: unexpected end of data"),
        ('prompt\n"a"b\n', ":2: ", "no CSV: "),
        ("prompt,prompt\na,b\n", ":1: ", "two columns are called 'prompt'"),
        (f"prompt\n{'a' * 1_000_001}\n", ":2: ", "no CSV: field larger than field limit"),
        (b"prompt\n\xff\n", ": ", "not UTF-8 text at byte 7"),
        ("", " ", "holds no prompt"),
        ("prompt\n \n", " ", "holds no prompt"),
    ],
)
def test_a_wrong_table_is_named(
    tmp_path: Path, content: str | bytes, place: str, problem: str
) -> None:
    """File, line and what is wrong."""
    path = written(tmp_path, content)
    assert f"{path}{place}{problem}" in problem_of(path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not a JSON object on one line ("), ("3", "not a JSON object"),
        ("[" * 100_000, "not a JSON"),
        ('{"prompt": "\\ud800"}', "a lone surrogate in 'prompt'"),
        ('{"prompt": "' + "a" * 1_000_001 + '"}', "a prompt of more than 1000000 characters"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """File, line and what is wrong."""
    path = written(tmp_path, '{"prompt": "a"}\n' + line, "p.jsonl")
    found = problem_of(path)
    assert f"{path}:2: {problem}" in found
    assert len(found) < 500


def test_the_limit_of_the_csv_module_is_left_as_it_was(tmp_path: Path) -> None:
    """Also after a failure."""
    before = csv.field_size_limit(77_777)
    try:
        read_prompts(written(tmp_path, "prompt\na\n"))
        with pytest.raises(InvalidText):
            read_prompts(written(tmp_path, "prompt\na,b\n"))
        assert csv.field_size_limit() == 77_777
    finally:
        csv.field_size_limit(before)


def test_missing_and_huge_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unread."""
    with pytest.raises(FileMissing, match="prompts not found"):
        read_prompts(tmp_path / "none.csv")
    monkeypatch.setattr(module, "MAX_BYTES", 5)
    with pytest.raises(InvalidText, match="larger than 5 bytes; split the prompts"):
        read_prompts(written(tmp_path, "prompt\na\n"))


def test_the_kinds_of_errors_are_apart(tmp_path: Path) -> None:
    """A missing column is a wrong request, an empty file is nothing to do."""
    with pytest.raises(ConfigurationError):
        read_prompts(written(tmp_path, "a\nb\n"))
    with pytest.raises(NothingToAudit):
        read_prompts(written(tmp_path, "prompt\n"))
