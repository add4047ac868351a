"""Properties that say nothing are recognised."""

from __future__ import annotations

from fractions import Fraction

from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from auditor.verify.vacuity import examine_vacuity

ZERO, ONE = (Fraction(0),), (Fraction(1),)
LOW = UnsafeRow((Fraction(1),), Fraction(0))
HIGH = UnsafeRow((Fraction(-1),), Fraction(-1))
FILLED = UnsafeCase(ZERO, ONE, (LOW,))
EMPTY = UnsafeCase(ONE, ZERO, (LOW,))
CONTRADICTORY = UnsafeCase(ZERO, ONE, (LOW, HIGH))


def prop(*cases: UnsafeCase) -> Property:
    return Property("p", cases, "", "", 1, 1)


def test_no_cases_say_nothing() -> None:
    assert examine_vacuity(prop()).empty


def test_only_empty_boxes_say_nothing() -> None:
    assert "empty" in examine_vacuity(prop(EMPTY)).text


def test_only_contradictory_rows_say_nothing() -> None:
    assert examine_vacuity(prop(CONTRADICTORY)).empty


def test_touching_closed_rows_are_satisfiable_and_strict_ones_not() -> None:
    touching = UnsafeRow((Fraction(-1),), Fraction(0))
    strict = UnsafeRow((Fraction(-1),), Fraction(0), strict=True)
    assert not examine_vacuity(prop(UnsafeCase(ZERO, ONE, (LOW, touching)))).empty
    assert examine_vacuity(prop(UnsafeCase(ZERO, ONE, (LOW, strict)))).empty


def test_a_mixture_is_not_empty_and_names_what_is_trivial() -> None:
    found = examine_vacuity(prop(FILLED, EMPTY, CONTRADICTORY))
    assert not found.empty
    assert found.trivial == {CONTRADICTORY}
    assert found.text == "1 cases have an empty set of inputs and 1 cases contradict themselves"


def over_inputs(factor: int, bound: str, *, strict: bool = False, output: int = 0) -> UnsafeRow:
    return UnsafeRow((Fraction(output),), Fraction(bound), strict, (Fraction(factor),))


def test_conditions_that_no_input_of_the_box_meets_empty_the_set() -> None:
    below = over_inputs(1, "-0.5")
    assert "set of inputs is empty" in examine_vacuity(prop(UnsafeCase(ZERO, ONE, (below,)))).text
    edge = over_inputs(1, "0")
    assert not examine_vacuity(prop(UnsafeCase(ZERO, ONE, (edge, LOW)))).empty
    open_edge = over_inputs(1, "0", strict=True)
    assert examine_vacuity(prop(UnsafeCase(ZERO, ONE, (open_edge, LOW)))).empty


def test_conditions_may_contradict_each_other_inside_the_box() -> None:
    rows = (over_inputs(1, "0.25"), over_inputs(-1, "-0.5"), LOW)
    assert examine_vacuity(prop(UnsafeCase(ZERO, ONE, rows))).empty


def test_cases_with_an_empty_set_are_left_out_beside_others() -> None:
    emptied = UnsafeCase(ZERO, ONE, (over_inputs(1, "-0.5"), LOW))
    found = examine_vacuity(prop(FILLED, emptied))
    assert not found.empty
    assert found.trivial == {emptied}
    assert found.text == "1 cases have an empty set of inputs"


def test_mixed_rows_contradict_only_if_the_box_says_so() -> None:
    """y <= x and y >= 2 + x cannot be; y <= x and y >= 1 meet at x = 1, strictly nowhere."""
    under = over_inputs(-1, "0", output=1)
    apart = over_inputs(1, "-2", output=-1)
    assert examine_vacuity(prop(UnsafeCase(ZERO, ONE, (under, apart)))).empty
    assert not examine_vacuity(prop(UnsafeCase(ZERO, ONE, (under, HIGH)))).empty
    beyond = UnsafeRow((Fraction(-1),), Fraction(-1), strict=True)
    assert examine_vacuity(prop(UnsafeCase(ZERO, ONE, (under, beyond)))).empty
