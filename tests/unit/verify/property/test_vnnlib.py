"""The VNN-LIB reader: what it reads, how it negates, what it refuses."""

from __future__ import annotations

from fractions import Fraction

import pytest

from auditor.errors import InvalidText, PropertyMismatch, UnsupportedProperty
from auditor.verify.property import Property, UnsafeRow
from auditor.verify.property.vnnlib import MAX_DEPTH, parse_vnnlib

HEAD = """
(declare-const X_0 Real) ; first input
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(declare-const Y_2 Real)
"""
BOX = """
(assert (<= X_0 1e-1)) (assert (>= X_0 -0.1))
(assert (and (<= X_1 2) (>= X_1 (- 2))))
"""


def read(text: str, *, head: str = HEAD, box: str = BOX) -> Property:
    return parse_vnnlib(head + box + text, "p", source="p.vnnlib", num_inputs=2, num_outputs=3)


def row(*coefficients: int, bound: str = "0", strict: bool = False) -> UnsafeRow:
    return UnsafeRow(tuple(map(Fraction, coefficients)), Fraction(bound), strict)


def test_bounds_are_exact_decimals() -> None:
    (case,) = read("(assert (<= Y_0 Y_1))").cases
    assert case.lower == (Fraction(-1, 10), Fraction(-2))
    assert case.upper == (Fraction(1, 10), Fraction(2))


def test_conjunction_of_output_atoms_is_one_case() -> None:
    (case,) = read("(assert (<= Y_0 Y_1)) (assert (>= Y_2 0.5))").cases
    assert case.rows == (row(1, -1, 0), row(0, 0, -1, bound="-0.5"))


def test_disjunction_of_output_atoms_is_several_cases() -> None:
    cases = read("(assert (or (and (<= Y_0 Y_1)) (and (< Y_2 3) (<= Y_1 1))))").cases
    assert [case.rows for case in cases] == [
        (row(1, -1, 0),),
        (row(0, 0, 1, bound="3", strict=True), row(0, 1, 0, bound="1")),
    ]


def test_several_disjunctions_are_a_product() -> None:
    cases = read("(assert (or (<= Y_0 0) (<= Y_1 0))) (assert (or (<= Y_2 1) (<= Y_2 2)))").cases
    assert len(cases) == 4
    assert cases[1].rows == (row(1, 0, 0), row(0, 0, 1, bound="2"))


def test_inputs_may_be_disjunctive() -> None:
    box = "(assert (>= X_1 0)) (assert (<= X_1 1))"
    cases = read(
        "(assert (or (and (<= X_0 1) (>= X_0 0)) (and (<= X_0 3) (>= X_0 2))))(assert (<= Y_0 0))",
        box=box,
    ).cases
    ends = [(float(case.lower[0]), float(case.upper[0])) for case in cases]
    assert ends == [(0.0, 1.0), (2.0, 3.0)]


def test_linear_terms_of_outputs_are_read() -> None:
    (case,) = read("(assert (<= (+ (* 2.0 Y_0) (- Y_1 Y_2) 1) (- 3 Y_0)))").cases
    assert case.rows == (row(3, 1, -1, bound="2"),)


def test_texts_state_violation_and_its_negation() -> None:
    prop = read("(assert (<= Y_0 Y_1)) (assert (<= Y_0 Y_2))")
    assert prop.text == "for every input of the set: y0 > y1 or y0 > y2"
    assert prop.violation_text == "some input of the set has y0 <= y1 and y0 <= y2"


def test_an_atom_that_is_never_true_removes_its_case() -> None:
    assert len(read("(assert (or (<= 2 1) (<= Y_0 0)))").cases) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(assert (<= Y_0 Y_1)", "never closed"),
        ("(assert (<= Y_0 Y_1)))", "without '('"),
        ("stray", "outside of"),
        ("(assert (not (<= Y_0 Y_1)))", "'not' is not read"),
        ("(assert (<= (* Y_0 Y_1) 1))", "product of two variables"),
        ("(assert (<= Y_0 nan))", "not a decimal"),
        ("(assert (<= Y_0 1e99999))", "exponent"),
        ("(assert (<= Y_9 1))", "not declared"),
        ("(check-sat)", "expected"),
        ("(declare-const Y_0 Real)", "declared twice"),
        ("(" * (MAX_DEPTH + 1), "nested deeper"),
    ],
)
def test_wrong_texts_are_refused_with_their_place(text: str, message: str) -> None:
    with pytest.raises(InvalidText, match=r"p\.vnnlib") as caught:
        read(text)
    assert message in str(caught.value)


def test_place_of_an_error_is_its_line_and_column() -> None:
    with pytest.raises(InvalidText, match=r"p\.vnnlib:3:9"):
        parse_vnnlib(
            "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (= Y_0 1))",
            "p",
            source="p.vnnlib",
            num_inputs=1,
            num_outputs=1,
        )


def test_an_explosion_of_cases_is_refused_before_it_happens() -> None:
    block = "(assert (or" + " (<= Y_0 1)" * 30 + "))"
    with pytest.raises(InvalidText, match="too many"):
        read(block * 8)


def test_atoms_over_inputs_become_rows_with_their_coefficients() -> None:
    (case,) = read("(assert (<= X_0 Y_0)) (assert (>= 1 (+ X_0 (* 2 X_1))))").cases
    mixed = UnsafeRow(
        (Fraction(-1), Fraction(0), Fraction(0)), Fraction(0), False, (Fraction(1), Fraction(0))
    )
    inputs = UnsafeRow((Fraction(0),) * 3, Fraction(1), False, (Fraction(1), Fraction(2)))
    assert case.rows == (mixed, inputs)
    assert case.precondition == (inputs,)


def test_conditions_on_inputs_alone_are_part_of_the_set_in_texts() -> None:
    prop = read("(assert (<= X_0 X_1)) (assert (or (<= Y_0 X_0) (>= Y_1 2)))")
    assert prop.text == "for every input of the set with x0 <= x1: y0 > x0 and y1 < 2"
    assert prop.violation_text == "some input of the set with x0 <= x1 has y0 <= x0 or y1 >= 2"


def test_too_many_coefficients_of_inputs_are_refused_before_they_are_made() -> None:
    count = 5_000
    head = "".join(f"(declare-const X_{i} Real)" for i in range(count)) + "(declare-const Y_0 Real)"
    atoms = "(assert (<= X_0 X_1))" * 2_000
    with pytest.raises(InvalidText, match="10000000 coefficients"):
        parse_vnnlib(head + atoms, "p", source="p", num_inputs=count, num_outputs=1)


def test_a_strict_bound_of_an_input_is_named_as_not_expressed() -> None:
    with pytest.raises(UnsupportedProperty):
        read("(assert (< X_0 1))")


def test_an_input_without_both_ends_is_refused() -> None:
    with pytest.raises(InvalidText, match="X_1 has no bound"):
        read("(assert (<= Y_0 1))", box="(assert (<= X_0 1)) (assert (>= X_0 0))")


def test_a_property_for_another_size_is_a_mismatch() -> None:
    with pytest.raises(PropertyMismatch, match="3 outputs, the model has 5"):
        parse_vnnlib(HEAD + BOX, "p", source="p", num_inputs=2, num_outputs=5)
