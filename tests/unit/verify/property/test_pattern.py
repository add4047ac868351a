"""Patterns: what they say, and contradictions refused at once."""

from __future__ import annotations

from fractions import Fraction

import pytest

from auditor.errors import ConfigurationError
from auditor.verify.property import LayerStates, Pattern


def test_a_pattern_counts_and_describes_its_states() -> None:
    pattern = Pattern.of({0: ([1, 2], [0]), "relu_1": ([], [5])}, example=[0.5, 0.25])
    assert pattern.count == 4
    assert pattern.example == (Fraction(1, 2), Fraction(1, 4))
    assert pattern.describe() == (
        "following a pattern (layer 0: 2 active, 1 inactive; layer relu_1: 0 active, 1 inactive)"
    )


@pytest.mark.parametrize(
    ("active", "inactive", "message"),
    [((1,), (1,), "neuron 1 is both active and inactive"), ((-1,), (), "count from 0")],
)
def test_impossible_states_are_refused(
    active: tuple[int, ...], inactive: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LayerStates(0, active, inactive)
