"""The strict YAML reader: every problem is one line with its place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from auditor.errors import InvalidText
from auditor.strict_yaml import MAX_CHARACTERS, MAX_DEPTH, load_strict, parse


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    radius: float


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    parts: list[Inner] = []


def problem(text: str, model: type[BaseModel] = Outer) -> str:
    with pytest.raises(InvalidText) as caught:
        load_strict(text, "plan.yaml", model)
    return str(caught.value)


def test_reads_a_valid_document() -> None:
    read = load_strict("name: a\nparts:\n  - radius: 0.5\n", "plan.yaml", Outer)
    assert read == Outer(name="a", parts=[Inner(radius=0.5)])


def test_unknown_key_is_named_with_place_and_hint() -> None:
    text = "name: a\nparts:\n  - radios: 0.5\n"
    assert problem(text) == "plan.yaml:3:5: unknown key 'radios'; did you mean 'radius'?"


def test_unknown_key_without_a_near_one_lists_the_known() -> None:
    assert problem("zzz: 1\nname: a\n") == (
        "plan.yaml:1:1: unknown key 'zzz'; known keys: name, parts"
    )


def test_missing_key_is_named() -> None:
    assert problem("parts: []\n") == "plan.yaml:1:1: key 'name' is missing"


def test_wrong_type_shows_the_value_and_its_place() -> None:
    text = "name: a\nparts:\n  - {radius: far}\n"
    assert problem(text) == (
        "plan.yaml:3:6: parts.0.radius: Input should be a valid number, unable to parse string "
        "as a number (found 'far')"
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: &x 1\nb: *x\n", "anchors and aliases are not allowed"),
        ("a: 1\na: 2\n", "key 'a' stands twice"),
        ("<<: {a: 1}\n", "merge keys are not allowed"),
        ("a: !!python/object/apply:os.system [ls]\n", "is not allowed; remove it"),
        ("a: !custom 1\n", "tag '!custom' is not allowed"),
        ("a: [1, 2\n", "not valid YAML"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
        ("a: \x00\n", "not valid YAML"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper"),
        ("x" * (MAX_CHARACTERS + 1), "longer than"),
    ],
)
def test_hostile_text_is_refused_in_one_line(text: str, part: str) -> None:
    with pytest.raises(InvalidText) as caught:
        parse(text, "plan.yaml")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_can_stay_text_so_that_decimals_are_exact() -> None:
    value: Any = parse("a: 0.1\nb: [1e-3, 7]\nc: true\n", "p", numbers_as_text=True).value
    assert value == {"a": "0.1", "b": ["1e-3", "7"], "c": True}


def test_empty_document_is_an_error_not_a_crash() -> None:
    assert problem("") == "plan.yaml:1:1: expected keys and values, found empty"


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("1" * 5_000, "a number of 5000 characters"),
        ("0x" + "f" * 5_000, "a number of 5002 characters"),
        ("1" + ":59" * 200_000, "a number of 600001 characters"),
        ("!!int abc", "'abc' is no int"),
        ("!!int ''", "'' is no int"),
        ("!!float abc", "'abc' is no float"),
        ("!!bool abc", "'abc' is no bool"),
        ("!!map abc", "is not allowed; remove it"),
        ("!!int [1]", "is not allowed; remove it"),
        ("!!str {a: 1}", "is not allowed; remove it"),
        ('"\\U00110000"', "a character or number that does not exist"),
        ('"\\UFFFFFFFF"', "a character or number that does not exist"),
    ],
)
def test_a_value_that_breaks_the_library_is_named_with_its_place(value: str, part: str) -> None:
    """Numbers beyond limits, and explicit tags that do not fit, are no crashes."""
    with pytest.raises(InvalidText) as caught:
        parse(f"a: {value}\n", "plan.yaml")
    assert str(caught.value).startswith("plan.yaml:1:")
    assert part in str(caught.value)


def test_a_version_directive_of_many_digits_is_no_crash() -> None:
    """The scanner turns its digits into a number before anybody can look at them."""
    with pytest.raises(InvalidText, match="a character or number that does not exist"):
        parse("%YAML 1." + "9" * 5_000 + "\n---\na: 1\n", "plan.yaml")


@pytest.mark.parametrize("text", [f"a: !{'x' * 9_000} x\n", f"? {'x' * 9_000}\n: 1\n"])
def test_messages_quote_the_file_only_briefly(text: str) -> None:
    """A tag or key of any length is shortened before it is shown."""
    assert len(problem(text)) < 300


def test_a_terminal_escape_in_a_key_is_spelt_out() -> None:
    """Nothing of a file reaches a terminal as a command."""
    assert problem('"\\e[31mx": 1\n"\\e[31mx": 2\n').isprintable()
