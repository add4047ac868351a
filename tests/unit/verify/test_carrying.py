"""Carried inputs leave a network exactly as they came, up to the stated shift."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from auditor.verify.carrying import MAX_CARRIED_IN_CHAIN, carry_inputs
from auditor.verify.network import GraphNetwork, Network
from tests.models.relu_chains import random_chain

LOWER, UPPER = np.array([-1.0, 100.0, 1e-9]), np.array([2.0, 100.5, 3e-9])
POINT = (Fraction(1, 3), Fraction(1003, 10), Fraction(2, 10**9))


def test_a_chain_carries_exactly_and_its_neurons_are_clearly_active() -> None:
    network = random_chain(0, (3, 4, 4, 2))
    carried = carry_inputs(network, [0, 1, 2], LOWER, UPPER)
    assert isinstance(carried.network, Network)
    outputs = carried.network.evaluate_exact(POINT)
    assert outputs[:2] == network.evaluate_exact(POINT)
    assert [y + s for y, s in zip(outputs[2:], carried.shifts, strict=True)] == list(POINT)
    gaps = [Fraction(low) - shift for low, shift in zip(LOWER, carried.shifts, strict=True)]
    reach = np.maximum(abs(LOWER), abs(UPPER))
    assert all(gap > Fraction(size) / 20 for gap, size in zip(gaps, reach, strict=True))


def test_only_what_is_asked_for_is_carried() -> None:
    network = random_chain(1, (3, 4, 1))
    assert carry_inputs(network, [], LOWER, UPPER).network is network
    assert carry_inputs(network, [1], LOWER, UPPER).network.num_outputs == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_graph_carries_without_a_shift(seed: int) -> None:
    network = GraphNetwork.from_chain(random_chain(seed, (3, 4, 2)))
    carried = carry_inputs(network, [0, 2], LOWER, UPPER)
    point = np.array([[0.5, 100.25, 2e-9]])
    assert list(map(float, carried.shifts)) == [0.0, 0.0]
    assert carried.network.evaluate(point)[0, 2:].tolist() == [0.5, 2e-9]
    assert np.array_equal(carried.network.evaluate(point)[:, :2], network.evaluate(point))


def test_many_inputs_are_carried_by_a_graph_unless_a_chain_is_needed() -> None:
    count = MAX_CARRIED_IN_CHAIN + 1
    network, ends = random_chain(0, (count, 2, 1)), (np.zeros(count), np.ones(count))
    assert isinstance(carry_inputs(network, range(count), *ends).network, GraphNetwork)
    kept = carry_inputs(network, range(count), *ends, keep_chain=True)
    assert isinstance(kept.network, Network)
