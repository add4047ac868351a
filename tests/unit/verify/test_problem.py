"""Problems describe a superset of what the property calls unsafe."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from auditor.verify.problem import problems_of
from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from tests.models.relu_chains import chain, distance_network, property_of

NETWORK = chain(([[1.0], [2.0]], [0.0, 0.0], False))
TENTH = Fraction(1, 10)


def test_box_and_bounds_are_rounded_outward() -> None:
    row = UnsafeRow((Fraction(1), Fraction(0)), TENTH)
    case = UnsafeCase((TENTH,), (TENTH,), (row,))
    (problem,) = problems_of(NETWORK, Property("p", (case,), "", "", 1, 2))
    assert Fraction(float(problem.lower[0])) <= TENTH <= Fraction(float(problem.upper[0]))
    assert Fraction(float(problem.bounds[0])) >= TENTH


def test_rows_are_scaled_by_powers_of_two_only() -> None:
    row = UnsafeRow((Fraction(3 * 2**70), Fraction(-(2**70))), Fraction(2**70))
    (problem,) = problems_of(NETWORK, property_of(NETWORK, [0.0], [1.0], [(row,)]))
    assert (problem.rows / problem.bounds).tolist() == [[3.0, -1.0]]


def test_cases_are_grouped_by_box_and_empty_ones_left_out() -> None:
    row = (UnsafeRow((Fraction(1), Fraction(0)), Fraction(0)),)
    zero, one, two = ((Fraction(value),) for value in (0, 1, 2))
    cases = (
        UnsafeCase(zero, one, row), UnsafeCase(one, two, row), UnsafeCase(zero, one, ()),
        UnsafeCase(two, zero, row),
    )  # fmt: skip
    problems = problems_of(NETWORK, Property("p", cases, "", "", 1, 2))
    assert [len(problem.cases) for problem in problems] == [2, 1]
    assert problems[0].starts.tolist() == [0, 1, 1]


def test_violation_is_the_largest_row_excess_of_each_case() -> None:
    rows = [
        (UnsafeRow((Fraction(1), Fraction(0)), Fraction(0)),
         UnsafeRow((Fraction(0), Fraction(1)), Fraction(1))),
        (),
    ]  # fmt: skip
    (problem,) = problems_of(NETWORK, property_of(NETWORK, [0.0], [1.0], rows))
    assert problem.violation(np.array([[0.25], [2.0]])).tolist() == [
        [0.25, -np.inf], [3.0, -np.inf],
    ]  # fmt: skip


def test_fixed_inputs_do_not_vary() -> None:
    network = distance_network([0.0, 0.0], 0.0)
    row = (UnsafeRow((Fraction(1),), Fraction(0)),)
    (problem,) = problems_of(network, property_of(network, [0.0, 1.0], [1.0, 1.0], [row]))
    assert problem.varying == 1
