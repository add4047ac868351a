"""Enclosures decide only what is certain whatever the rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from auditor.verify.enclosure import enclose_outputs, worst_margin
from auditor.verify.network import GraphNetwork
from auditor.verify.property import UnsafeCase, UnsafeRow
from tests.models.relu_chains import absorbing_network, distance_network

ONE = Fraction(1)


def test_a_known_value_lies_in_a_narrow_enclosure() -> None:
    network = GraphNetwork.from_chain(distance_network([0.5, 0.25], 1.0))
    lower, upper = enclose_outputs(network, [Fraction(1), Fraction(1, 3)])
    exact = Fraction(1) + Fraction(1, 2) + Fraction(1, 12)
    assert Fraction(float(lower[0])) <= exact <= Fraction(float(upper[0]))
    assert upper[0] - lower[0] < 1e-11


def test_what_floats_absorb_is_still_enclosed() -> None:
    """The output at 1 is -1/2, plain float64 says 1/2."""
    network = GraphNetwork.from_chain(absorbing_network())
    lower, upper = enclose_outputs(network, [ONE])
    assert lower[0] <= -0.5 <= upper[0]


def test_a_row_counts_only_if_the_whole_enclosure_violates_it() -> None:
    case = UnsafeCase((ONE,), (ONE,), (UnsafeRow((ONE,), ONE),))
    assert worst_margin(case, np.array([0.0]), np.array([0.5])) == (True, 0.5)
    assert worst_margin(case, np.array([0.0]), np.array([1.5])) == (False, -0.5)


def test_a_tie_does_not_violate_a_strict_row() -> None:
    strict = UnsafeCase((ONE,), (ONE,), (UnsafeRow((ONE,), ONE, strict=True),))
    assert worst_margin(strict, np.array([1.0]), np.array([1.0])) == (False, 0.0)


def test_each_row_has_a_worst_corner_of_its_own() -> None:
    rows = (UnsafeRow((ONE, -ONE), Fraction(0)), UnsafeRow((-ONE, ONE), Fraction(3)))
    case = UnsafeCase((ONE,), (ONE,), rows)
    low, high = np.array([0.0, 1.0]), np.array([0.5, 2.0])
    assert worst_margin(case, low, high) == (True, 0.5)


def test_infinite_ends_decide_nothing() -> None:
    case = UnsafeCase((ONE,), (ONE,), (UnsafeRow((ONE,), ONE),))
    assert worst_margin(case, np.array([-np.inf]), np.array([0.0])) == (False, -np.inf)
