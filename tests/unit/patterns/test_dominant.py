"""Dominant states are cut off by exact integers."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from auditor.errors import ConfigurationError
from auditor.patterns.dominant import Delta, dominant_states, read_delta


def test_one_of_ten_is_inactive_at_nine_tenths() -> None:
    """With floats, 1 <= 10 * (1 - 0.9) is false."""
    counts = np.array([[0, 1, 2, 8, 9, 10]])
    states = dominant_states(counts, np.array([10]), read_delta(0.9))
    assert states.active.tolist() == [[False, False, False, False, True, True]]
    assert states.inactive.tolist() == [[True, True, False, False, False, False]]


def test_delta_one_fixes_only_what_never_varies() -> None:
    states = dominant_states(np.array([[0, 1, 999, 1000]]), np.array([1000]), Fraction(1))
    assert states.active.tolist() == [[False, False, False, True]]
    assert states.inactive.tolist() == [[True, False, False, False]]


def test_a_class_without_samples_fixes_nothing() -> None:
    states = dominant_states(np.array([[0, 0], [3, 0]]), np.array([0, 3]), Fraction(1))
    assert not (states.active[0] | states.inactive[0]).any()
    assert (states.active[1] | states.inactive[1]).all()


def test_a_lower_delta_keeps_every_state_of_a_higher_one() -> None:
    rng = np.random.default_rng(0)
    totals = np.array([7, 100, 1])
    counts = rng.integers(0, totals[:, None] + 1, (3, 50))
    deltas = [Fraction(1), Fraction(99, 100), Fraction(3, 4), Fraction(51, 100)]
    found = [dominant_states(counts, totals, delta) for delta in deltas]
    for strict, loose in pairwise(found):
        assert not (strict.active & ~loose.active).any()
        assert not (strict.inactive & ~loose.inactive).any()
        assert not (loose.active & loose.inactive).any()


@pytest.mark.parametrize(
    ("value", "delta"),
    [(0.95, Fraction(19, 20)), ("0.95", Fraction(19, 20)), (1, Fraction(1)), (1.0, Fraction(1))],
)
def test_a_delta_is_the_decimal_that_was_written(value: Delta, delta: Fraction) -> None:
    assert read_delta(value) == delta


@pytest.mark.parametrize("value", [0.5, 0, 1.01, -1, "x", float("nan"), float("inf"), "0.12345678"])
def test_other_numbers_are_refused_by_value(value: Delta) -> None:
    with pytest.raises(ConfigurationError, match=f"delta '?{value}"):
        read_delta(value)
