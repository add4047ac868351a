"""Local robustness as a property."""

from __future__ import annotations

from fractions import Fraction

import pytest

from auditor.errors import ConfigurationError
from auditor.verify.property import robustness_property


def test_every_other_class_is_a_case_and_a_tie_violates() -> None:
    prop = robustness_property([0.5, 1.0], Fraction(1, 10), 1, 3, clip=(0, 1))
    signs = [[int(c) for c in case.rows[0].coefficients] for case in prop.cases]
    assert signs == [[-1, 1, 0], [0, 1, -1]]
    assert all(case.violated_by((Fraction(1),) * 3) for case in prop.cases)
    assert prop.cases[0].lower == (Fraction(4, 10), Fraction(9, 10))
    assert prop.cases[0].upper == (Fraction(6, 10), Fraction(1))


def test_a_float_centre_means_exactly_that_float() -> None:
    prop = robustness_property([0.1], 0, 0, 2)
    assert prop.cases[0].lower == (Fraction(0.1),)


@pytest.mark.parametrize(
    ("center", "radius", "label"),
    [([0.0], -1, 0), ([0.0], 0.1, 2), ([float("nan")], 0.1, 0), ([float("inf")], 0.1, 0)],
)
def test_numbers_out_of_range_are_refused(center: list[float], radius: float, label: int) -> None:
    with pytest.raises(ConfigurationError):
        robustness_property(center, radius, label, 2)
