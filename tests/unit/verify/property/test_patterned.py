"""Properties of activation patterns on |x|, whose two neurons are known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from auditor.errors import ConfigurationError
from auditor.findings import Verdict
from auditor.verify.property import (
    conflicting_neuron,
    pattern_class_property,
    pattern_overlap_property,
)
from auditor.verify.search import verify
from tests.models.relu_chains import chain, float32_runtime

# h = (relu(x - 1), relu(-x - 1), relu(x)); the class is 0 where x > 0 and 1 where x < 0.
NETWORK = chain(
    ([[1.0], [-1.0], [1.0], [-1.0]], [-1.0, -1.0, 0.0, 0.0], True),
    ([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], [0.0, 0.0], False),
)
BOX = (Fraction(-3),), (Fraction(3),)
States = dict[int | str, tuple[tuple[int, ...], tuple[int, ...]]]
RIGHT: States = {0: ((0,), ())}
LEFT: States = {0: ((1,), ())}
NOT_RIGHT: States = {0: ((), (0,))}
NOT_LEFT: States = {0: ((), (1,))}


def test_a_pattern_that_fixes_the_class_verifies() -> None:
    prop = pattern_class_property(RIGHT, 0, 2, BOX, example=[Fraction(2)])
    assert verify(NETWORK, prop).verdict is Verdict.HOLDS


def test_a_pattern_that_does_not_is_violated_by_a_follower() -> None:
    prop = pattern_class_property(NOT_RIGHT, 0, 2, BOX)
    outcome = verify(NETWORK, prop, replay=float32_runtime(NETWORK))
    assert outcome.verdict is Verdict.VIOLATED
    assert outcome.witness is not None
    assert outcome.witness.inputs[0] <= 1


def test_patterns_that_exclude_each_other_do_not_overlap() -> None:
    """x >= 1 and x <= -1, though no neuron is asked to be both."""
    assert conflicting_neuron(RIGHT, LEFT) is None
    outcome = verify(NETWORK, pattern_overlap_property(RIGHT, LEFT, 2, BOX))
    assert outcome.verdict is Verdict.HOLDS


def test_an_input_that_follows_both_is_shown() -> None:
    prop = pattern_overlap_property(NOT_RIGHT, NOT_LEFT, 2, BOX)
    outcome = verify(NETWORK, prop, replay=float32_runtime(NETWORK))
    assert outcome.verdict is Verdict.VIOLATED
    assert outcome.witness is not None
    assert np.abs(outcome.witness.inputs[0]) <= 1


def test_a_neuron_in_opposite_states_settles_it_without_a_search() -> None:
    assert conflicting_neuron(RIGHT, NOT_RIGHT) == (0, 0)
    assert conflicting_neuron(NOT_RIGHT, RIGHT) == (0, 0)
    with pytest.raises(ConfigurationError, match="layer 0, neuron 0"):
        pattern_overlap_property(RIGHT, NOT_RIGHT, 2, BOX)


def test_a_label_that_is_no_output_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="label 2"):
        pattern_class_property(RIGHT, 2, 2, BOX)
