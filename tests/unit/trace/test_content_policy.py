"""Content policies are read strictly, and their digest names what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import FileMissing, InvalidText
from auditor.trace import content_policy
from auditor.trace.content_policy import Clause, ContentPolicy, read_policy

TEXT = """\
version: 1
name: workshop
clauses:
  - id: guards
    statement: Guards must never be removed.
    violation: The text tells somebody to remove a guard.
    weight: 0.5
"""


def written(folder: Path, text: str) -> Path:
    """A policy file."""
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """Every key of it is in the policy, defaults added."""
    found = read_policy(written(tmp_path, TEXT))
    assert found == ContentPolicy(
        version=1,
        name="workshop",
        clauses=(
            Clause(
                id="guards", statement="Guards must never be removed.",
                violation="The text tells somebody to remove a guard.", weight=0.5,
            ),
        ),
    )  # fmt: skip


def test_a_policy_without_clauses_is_one(tmp_path: Path) -> None:
    """Nothing conflicts with it."""
    text = "version: 1\nname: none\nclauses: []\n"
    assert read_policy(written(tmp_path, text)).clauses == ()


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("weight: 0.5", "weight: 0", ":7:5: clauses.0.weight"),
        ("weight: 0.5", "weight: 1.5", ":7:5: clauses.0.weight"),
        ("weight: 0.5", "weihgt: 0.5", ":7:5: unknown key 'weihgt'; did you mean 'weight'?"),
        ("id: guards", "id: Guards!", ":4:5: clauses.0.id"),
        ("statement: Guards must never be removed.", "statement: '  '", "clauses.0.statement"),
        ("version: 1", "version: 2", ":1:1: version"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, old: str, new: str, place: str
) -> None:
    """One line with file, line and column."""
    path = written(tmp_path, TEXT.replace(old, new))
    with pytest.raises(InvalidText) as caught:
        read_policy(path)
    assert str(path) in str(caught.value)
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_clauses_of_one_name_are_refused(tmp_path: Path) -> None:
    """A result names its clause by id alone."""
    text = TEXT + TEXT.split("clauses:\n")[1]
    with pytest.raises(InvalidText, match="two clauses are called 'guards'; rename one"):
        read_policy(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """As every missing file."""
    with pytest.raises(FileMissing, match=r"content policy not found: .*none\.yaml"):
        read_policy(tmp_path / "none.yaml")


def test_other_bytes_than_utf8_are_refused(tmp_path: Path) -> None:
    """With the byte where they begin."""
    (tmp_path / "policy.yaml").write_bytes(b"name: \xff")
    with pytest.raises(InvalidText, match="not UTF-8 text at byte 6"):
        read_policy(tmp_path / "policy.yaml")


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size."""
    monkeypatch.setattr(content_policy, "MAX_POLICY_BYTES", 10)
    with pytest.raises(InvalidText, match="larger than 10 bytes; split the content policy"):
        read_policy(written(tmp_path, TEXT))


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.5", "0.6"), ("removed", "moved"), ("somebody", "anybody"), ("guards", "guard")],
)
def test_the_digest_changes_with_every_word(tmp_path: Path, old: str, new: str) -> None:
    """A calibration made with one policy cannot pass for one of another."""
    one = read_policy(written(tmp_path, TEXT)).digest
    assert read_policy(written(tmp_path, TEXT.replace(old, new, 1))).digest != one


def test_the_digest_does_not_change_with_layout(tmp_path: Path) -> None:
    """Comments and order of keys say nothing."""
    lines = TEXT.splitlines(keepends=True)
    other = "# a comment\n" + lines[1] + lines[0] + "".join(lines[2:])
    one = read_policy(written(tmp_path, TEXT)).digest
    assert read_policy(written(tmp_path, other)).digest == one
