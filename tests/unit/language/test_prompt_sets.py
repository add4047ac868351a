"""Both sets of prompts, from two files or from one."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import AuditorError
from auditor.language.prompt_sets import AskedPrompt, PromptFiles, PromptSet, read_prompt_sets
from auditor.language.prompts import Prompt

HARMFUL, HARMLESS = PromptSet.HARMFUL, PromptSet.HARMLESS
TABLE = "prompt,type,label\na,x,safe\nb,y,unsafe\nc,x, safe \nd,y,unsafe\n"


def files_of(
    tmp_path: Path, text: str = TABLE, *, column: str | None = "label", unsafe: str = "unsafe"
) -> PromptFiles:
    path = tmp_path / "prompts.csv"
    path.write_text(text, "utf-8")
    return PromptFiles(
        {HARMFUL: path, HARMLESS: path},
        {HARMFUL: frozenset({unsafe}), HARMLESS: frozenset({"safe"})}, column,
    )  # fmt: skip


def test_one_file_holds_both_sets(tmp_path: Path) -> None:
    """Harmful ones first, each with its type and its line in the file."""
    found = read_prompt_sets(files_of(tmp_path))
    assert found == [
        AskedPrompt(Prompt("b", "y", "line 3"), HARMFUL),
        AskedPrompt(Prompt("d", "y", "line 5"), HARMFUL),
        AskedPrompt(Prompt("a", "x", "line 2"), HARMLESS),
        AskedPrompt(Prompt("c", "x", "line 4"), HARMLESS),
    ]
    assert [each.prompt.line for each in found] == [3, 5, 2, 4]


def test_the_first_of_each_set_are_read(tmp_path: Path) -> None:
    assert [each.prompt.text for each in read_prompt_sets(files_of(tmp_path), 1)] == ["b", "a"]


def test_two_files_need_no_column(tmp_path: Path) -> None:
    other = tmp_path / "more.jsonl"
    other.write_text('{"goal": "e"}\n', "utf-8")
    files = files_of(tmp_path, column=None)
    found = read_prompt_sets(
        PromptFiles({HARMFUL: other, HARMLESS: files.paths[HARMLESS]}, files.values)
    )
    assert [(each.kind, each.prompt.text) for each in found] == [
        (HARMFUL, "e"), *((HARMLESS, text) for text in "abcd")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "column", "unsafe", "problem"),
    [
        (TABLE, None, "unsafe", "is named for both sets; name the column that tells them apart"),
        (TABLE, "kind", "unsafe", "has no column 'kind'; it has prompt, type, label"),
        (TABLE, "label", "bad", ":3: 'label' is 'unsafe'; known are bad, safe"),
        (TABLE, "label", "safe", "'safe' is to mean harmful and harmless; give it once"),
        ("prompt,label\na,safe\n", "label", "unsafe", "holds no prompt whose label is unsafe"),
        ("prompt,label\n", "label", "unsafe", "holds no prompt whose label is unsafe"),
    ],
)
def test_what_does_not_tell_the_sets_apart_is_one_line(
    tmp_path: Path, text: str, column: str | None, unsafe: str, problem: str
) -> None:
    with pytest.raises(AuditorError) as caught:
        read_prompt_sets(files_of(tmp_path, text, column=column, unsafe=unsafe))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
