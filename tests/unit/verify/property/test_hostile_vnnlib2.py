"""VNN-LIB 2 of strangers: the library notes what is wrong at length, so it is given little at once.

Texts that are right are read in parts as they are as a whole.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import InvalidText
from auditor.verify.property import Property, load_property, vnnlib2

NETWORK = (
    "(vnnlib-version <2.0>)\n(declare-network N (declare-input X float32 [2]) "
    "(declare-output {} float32 [2]))\n"
)
BOX = "(assert (and (<= X[0] 1.0) (>= X[0] 0.0)\n (<= X[1] 1.0) (>= X[1] 0.0)))\n"


def read(folder: Path, text: str, *, output: str = "Y") -> Property:
    """The property of a text behind the declaration of a network."""
    path = folder / "p.vnnlib"
    path.write_text(NETWORK.format(output) + text)
    return load_property(path, num_inputs=2, num_outputs=2)


def refusal(folder: Path, text: str, *, output: str = "Y") -> str:
    """The message of a text that is not read, on one line."""
    with pytest.raises(InvalidText) as caught:
        read(folder, text, output=output)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_parts_say_what_the_whole_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an assertion ends a part, and with comments and blank lines between."""
    rows = "".join(f"(assert (<= Y[0] {number}.0)) ; (assert\n\n" for number in range(40))
    whole = read(tmp_path, BOX + rows)
    for most in (40, 47, 48, 49, 100):
        monkeypatch.setattr(vnnlib2, "MAX_WORDS_AT_ONCE", most)
        assert read(tmp_path, BOX + rows) == whole


def test_an_error_in_a_later_part_names_its_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are counted in the file, not in the part."""
    rows = "(assert (<= Y[0] 1.0))\n" * 40
    text = f"{BOX}{rows}(assert (<= Y[0] 1))"
    line = f'"line": {(NETWORK + text).count(chr(10)) + 1},'
    assert line in refusal(tmp_path, text)
    monkeypatch.setattr(vnnlib2, "MAX_WORDS_AT_ONCE", 60)
    assert line in refusal(tmp_path, text)


def test_errors_beyond_the_first_part_are_never_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own count of what it noted."""
    monkeypatch.setattr(vnnlib2, "MAX_WORDS_AT_ONCE", 90)
    assert '"error_count": 11' in refusal(tmp_path, "(assert (<= Y[0] 1))\n" * 5_000)


def test_a_statement_of_too_many_words_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each word of it could be wrong, and it cannot be read in parts."""
    monkeypatch.setattr(vnnlib2, "MAX_WORDS_AT_ONCE", 90)
    assert "words in one statement" in refusal(tmp_path, f"(assert (<= Y[0] (+ {'1 ' * 90})))")


def test_declarations_of_too_many_words_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand before each part."""
    monkeypatch.setattr(vnnlib2, "MAX_WORDS_AT_ONCE", 90)
    assert "words in one statement" in refusal(tmp_path, NETWORK.format("Y") * 9 + BOX)


@pytest.mark.parametrize("text", ["(assert (<= {} 1.0))", "(declare-output{})", "(assert {})"])
def test_a_long_name_is_refused_before_it_is_repeated(tmp_path: Path, text: str) -> None:
    """Each error would quote it four times."""
    name = "Y" * (vnnlib2.MAX_NAME + 1)
    assert "a name of more than" in refusal(tmp_path, BOX + text.format(name))
    assert "a name of more than" in refusal(tmp_path, BOX, output=name)


def test_names_as_long_as_allowed_and_long_numbers_are_read(tmp_path: Path) -> None:
    """A number has as many digits as it needs."""
    name, digits = "Y" * vnnlib2.MAX_NAME, "3" * 200
    short = read(tmp_path, f"{BOX}(assert (<= Y[0] 0.{digits}))")
    assert read(tmp_path, f"{BOX}(assert (<= {name}[0] 0.{digits}))", output=name) == short


@pytest.mark.parametrize("text", ["()" * 50, ")" * 50, "(assert", "assert assert", ") (assert"])
def test_what_is_no_statement_is_an_error_in_parts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Nothing between two statements goes unread."""
    monkeypatch.setattr(vnnlib2, "MAX_WORDS_AT_ONCE", 60)
    for place in (0, 1, 30):
        rows = ["(assert (<= Y[0] 1.0))\n"] * 30
        rows.insert(place, text + "\n")
        assert refusal(tmp_path, BOX + "".join(rows))
