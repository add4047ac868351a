"""The YAML form of properties: each condition and its negation, each refusal."""

from __future__ import annotations

from fractions import Fraction

import pytest

from auditor.errors import InvalidText, PropertyMismatch
from auditor.verify.property import Pattern, Property, UnsafeRow
from auditor.verify.property.property_yaml import parse_property_yaml

BASE = """\
version: 1
id: planted
inputs:
  box: {lower: 0, upper: [1, 0.1]}
"""


def read(text: str) -> Property:
    return parse_property_yaml(text, source="p.yaml", num_inputs=2, num_outputs=3)


def rows_of(condition: str) -> list[tuple[UnsafeRow, ...]]:
    return [case.rows for case in read(f"{BASE}then:\n  - {condition}\n").cases]


def row(*coefficients: int, bound: str = "0", strict: bool = False) -> UnsafeRow:
    return UnsafeRow(tuple(map(Fraction, coefficients)), Fraction(bound), strict)


def test_box_ends_are_exact_and_one_number_serves_all() -> None:
    (case,) = read(BASE + "then: [{at_most: {output: 0, value: 1}}]").cases
    assert case.lower == (Fraction(0), Fraction(0))
    assert case.upper == (Fraction(1), Fraction(1, 10))


def test_around_is_clipped() -> None:
    text = """\
version: 1
id: around
inputs: {around: {center: [0.02, 0.5], radius: 0.05, clip: [0, 1]}}
then: [{class: 1}]
"""
    case = read(text).cases[0]
    assert case.lower == (Fraction(0), Fraction(45, 100))
    assert case.upper == (Fraction(7, 100), Fraction(55, 100))


def test_class_is_violated_by_any_output_at_least_as_large() -> None:
    assert rows_of("class: 1") == [(row(-1, 1, 0),), (row(0, 1, -1),)]


def test_class_in_is_violated_when_one_other_reaches_all_of_them() -> None:
    assert rows_of("class: {in: [0, 2]}") == [(row(1, -1, 0), row(0, -1, 1))]


def test_greater_counts_a_tie_as_violation() -> None:
    assert rows_of("greater: {output: 2, than: 0}") == [(row(-1, 0, 1),)]


def test_at_most_and_at_least_allow_a_tie() -> None:
    assert rows_of("at_most: {output: 0, value: 1500}") == [
        (row(-1, 0, 0, bound="-1500", strict=True),)
    ]
    assert rows_of("at_least: {output: 1, value: -0.5}") == [
        (row(0, 1, 0, bound="-0.5", strict=True),)
    ]


def test_names_of_outputs_are_understood_and_used_in_texts() -> None:
    prop = read(
        BASE + "title: Planted\noutputs: {names: [cat, dog, fox]}\n"
        "then: [{class: fox}, {at_most: {output: cat, value: 3}}]"
    )
    assert prop.output_names == ("cat", "dog", "fox")
    assert prop.text == (
        "Planted: for every input of the box: fox is the largest output and cat <= 3"
    )
    assert prop.violation_text == (
        "some input of the box has another output at least as large as fox or cat > 3"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "then: [{clas: 1}]", "did you mean 'class'"),
        (BASE + "then: []", "then"),
        (BASE + "then: [{class: 1, greater: {output: 0, than: 1}}]", "exactly one"),
        (BASE + "then: [{class: zebra}]", "unknown output 'zebra'"),
        (BASE + "then: [{greater: {output: 1, than: 1}}]", "compared with itself"),
        (BASE + "then: [{at_most: {output: 0, value: .inf}}]", "not a decimal"),
        (BASE + "outputs: {names: [a, a, b]}\nthen: [{class: 1}]", "same name"),
        (BASE.replace("version: 1", "version: 2") + "then: [{class: 1}]", "version"),
        (BASE.replace("box:", "bax:") + "then: [{class: 1}]", "did you mean 'box'"),
    ],
)
def test_wrong_files_are_refused_with_their_place(text: str, message: str) -> None:
    with pytest.raises(InvalidText, match=r"p\.yaml:\d+:\d+") as caught:
        read(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("[1, 0.1]", "[1, 1, 1]") + "then: [{class: 1}]",
        BASE + "then: [{class: 3}]",
        BASE + "outputs: {names: [a, b]}\nthen: [{class: 1}]",
    ],
)
def test_sizes_of_another_model_are_a_mismatch(text: str) -> None:
    with pytest.raises(PropertyMismatch):
        read(text)


def mixed(outputs: str, inputs: str, bound: str, *, strict: bool) -> UnsafeRow:
    over_outputs, over_inputs = (tuple(map(Fraction, text.split())) for text in (outputs, inputs))
    return UnsafeRow(over_outputs, Fraction(bound), strict, over_inputs)


def test_a_linear_condition_may_speak_of_outputs_and_inputs() -> None:
    condition = "linear: {outputs: {2: 1, y0: -0.5}, inputs: {1: 2}, at_least: 3}"
    assert rows_of(condition) == [(mixed("-0.5 0 1", "0 2", "3", strict=True),)]
    condition = "linear: {outputs: {0: 1}, inputs: {0: -1}, at_most: 0}"
    assert rows_of(condition) == [(mixed("-1 0 0", "1 0", "0", strict=True),)]
    assert rows_of("linear: {outputs: {0: 1}, at_most: 0}") == [(row(-1, 0, 0, strict=True),)]


def test_where_restricts_the_inputs_of_every_condition() -> None:
    base = BASE.replace("inputs:\n", "inputs:\n  where: [{inputs: {0: 1, 1: 1}, at_most: 1}]\n")
    prop = read(base + "then: [{at_least: {output: 0, value: 0}}, {greater: {output: 1, than: 2}}]")
    demanded = mixed("0 0 0", "1 1", "1", strict=False)
    assert [case.rows[0] for case in prop.cases] == [demanded, demanded]
    assert prop.cases[0].precondition == (demanded,)
    assert prop.text == "for every input of the box with x0 + x1 <= 1: y0 >= 0 and y1 > y2"


def test_following_is_a_pattern_by_index_or_name_with_an_example() -> None:
    prop = read(
        BASE + "following: {0: {active: [1, 3], inactive: [2]}, relu_5: {inactive: [0]}}\n"
        "example: [0.1, 0]\nthen: [{class: 1}]"
    )
    assert prop.pattern == Pattern.of(
        {0: ([1, 3], [2]), "relu_5": ([], [0])}, [Fraction(1, 10), Fraction(0)]
    )
    assert "of the box, following a pattern (layer 0: 2 active" in prop.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("following: {0: {active: [1], inactive: [1]}}\n", "neuron 1 is both"),
        ("following: {0: {activ: [1]}}\n", "did you mean 'active'"),
        ("following: {0: {active: [-1]}}\n", "greater than or equal to 0"),
        ("following: {}\n", "following"),
        ("example: [0, 0]\n", "add 'following'"),
    ],
)
def test_wrong_patterns_are_refused_with_their_place(text: str, message: str) -> None:
    with pytest.raises(InvalidText, match=r"p\.yaml:\d+:\d+") as caught:
        read(BASE + text + "then: [{class: 1}]")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("linear: {outputs: {0: 1}, at_most: 1, at_least: 0}", "exactly one of 'at_most'"),
        ("linear: {outputs: {0: 0}, at_most: 1}", "at least one factor"),
        ("linear: {outputs: {0: 1, y0: 2}, at_most: 1}", "stands twice"),
        ("linear: {outputs: {zebra: 1}, at_most: 1}", "unknown output 'zebra'"),
        ("linear: {inputs: {a: 1}, at_most: 1}", "integer"),
    ],
)
def test_wrong_linear_conditions_are_refused(condition: str, message: str) -> None:
    with pytest.raises(InvalidText, match=r"p\.yaml:\d+:\d+") as caught:
        rows_of(condition)
    assert message in str(caught.value)


def test_conditions_on_outputs_do_not_belong_to_the_inputs() -> None:
    base = BASE.replace("inputs:\n", "inputs:\n  where: [{outputs: {0: 1}, at_most: 1}]\n")
    with pytest.raises(InvalidText, match="move it to 'then'"):
        read(base + "then: [{class: 1}]")


@pytest.mark.parametrize(
    "text",
    [
        "example: [0]\nfollowing: {0: {active: [1]}}\nthen: [{class: 1}]",
        "then: [{linear: {inputs: {2: 1}, at_most: 1}}]",
    ],
)
def test_inputs_of_another_model_are_a_mismatch(text: str) -> None:
    with pytest.raises(PropertyMismatch, match="inputs"):
        read(BASE + text)
