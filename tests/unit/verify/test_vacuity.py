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
