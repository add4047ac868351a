"""A witness counts only when exact arithmetic and every replay agree."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from auditor.verify.network import GraphNetwork
from auditor.verify.phases import phases_of
from auditor.verify.property import Pattern, UnsafeCase, UnsafeRow
from auditor.verify.witness import examine, snap_to_float32
from tests.models.relu_chains import absorbing_network, distance_network, float32_runtime

NETWORK = distance_network([0.0], 0.0)
BELOW = UnsafeCase((Fraction(-1),), (Fraction(1),), (UnsafeRow((Fraction(1),), Fraction(1, 2)),))


def test_exact_outputs_margin_and_replay_are_recorded() -> None:
    witness = examine(NETWORK, BELOW, np.array([0.25], np.float32), [float32_runtime(NETWORK)])
    assert witness.confirmed
    assert witness.margin == 0.25
    assert witness.exact_outputs == witness.outputs == (0.25,)
    assert [replay.label for replay in witness.replays] == ["float32"]


def test_one_replay_that_holds_is_enough_to_reject() -> None:
    def holding(inputs: NDArray[np.float32], /) -> NDArray[np.floating]:
        return np.array([7.0])

    witness = examine(
        NETWORK, BELOW, np.array([0.25], np.float32), [float32_runtime(NETWORK), holding]
    )
    assert not witness.confirmed
    assert "not as executed (replay 2)" in witness.disagreement


def test_outputs_that_are_not_finite_do_not_violate() -> None:
    def broken(inputs: NDArray[np.float32], /) -> NDArray[np.floating]:
        return np.array([-np.inf])

    assert not examine(NETWORK, BELOW, np.array([0.25], np.float32), [broken]).confirmed


def test_a_violation_only_as_executed_is_called_so() -> None:
    network = absorbing_network()
    above = UnsafeCase(
        (Fraction(0),), (Fraction(1),), (UnsafeRow((Fraction(-1),), Fraction(-1, 4)),)
    )
    witness = examine(network, above, np.array([1.0], np.float32), [float32_runtime(network)])
    assert not witness.exact_violates
    assert "not in exact arithmetic" in witness.disagreement


def test_snapping_stays_inside_the_exact_box() -> None:
    tenth = Fraction(1, 10)
    case = UnsafeCase((tenth, tenth), (Fraction(1), Fraction(1)), ())
    snapped = snap_to_float32(np.array([0.1, 2.0]), case)
    assert not snapped.outside
    assert case.contains([Fraction(float(value)) for value in snapped.inputs])


def test_an_input_without_a_float32_stays_exact_and_is_run_at_the_nearest_one() -> None:
    third = Fraction(1, 3)
    case = UnsafeCase((Fraction(0), third), (Fraction(1), third), ())
    snapped = snap_to_float32(np.array([0.5, 1 / 3]), case)
    assert snapped.outside == (1,)
    assert snapped.exact == (Fraction(1, 2), third)
    assert snapped.inputs.tolist() == [np.float32(0.5), np.float32(1 / 3)]


def test_rows_over_inputs_are_replayed_with_the_inputs_given() -> None:
    """|x| <= x / 2 is met at 0 alone."""
    row = UnsafeRow((Fraction(1),), Fraction(0), False, (Fraction(-1, 2),))
    case = UnsafeCase((Fraction(-1),), (Fraction(1),), (row,))
    for value, met in ((0.0, True), (0.5, False), (-0.5, False)):
        for network in (NETWORK, GraphNetwork.from_chain(NETWORK)):
            point = np.array([value], np.float32)
            witness = examine(network, case, point, [float32_runtime(NETWORK)])
            assert [replay.violates for replay in witness.replays] == [met]
            assert witness.exact_violates is met


def test_an_enclosure_cannot_show_a_tie() -> None:
    """A graph with rounded numbers has no exact values."""
    case = replace(BELOW, rows=(UnsafeRow((Fraction(1),), Fraction(1, 4)),))
    network, point = GraphNetwork.from_chain(NETWORK), np.array([0.25], np.float32)
    for rounded in (False, True):
        subject = replace(network, rounded=rounded)
        assert examine(subject, case, point, []).exact_violates is not rounded


def test_an_input_that_leaves_the_pattern_never_counts() -> None:
    """The first neuron is x: active where x >= 0, the border included."""
    phases = phases_of(Pattern.of({0: ([0], [])}), NETWORK)
    for value, follows in ((0.25, True), (0.0, True), (-0.25, False)):
        point = np.array([value], np.float32)
        witness = examine(NETWORK, BELOW, point, [float32_runtime(NETWORK)], phases=phases)
        assert witness.follows is witness.confirmed is witness.exact_violates is follows
        assert witness.replays[0].violates
        assert ("does not follow the pattern" in witness.disagreement) is not follows
