"""Patterns become phases of the right neurons, or one clear refusal."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from auditor.errors import ConfigurationError
from auditor.verify.network import AffineLayer, GraphNetwork, Network
from auditor.verify.phases import follows_exactly, phases_of, widened_phases
from auditor.verify.property import LayerStates, Pattern
from tests.models.relu_chains import random_chain

NETWORK = Network(
    tuple(
        AffineLayer(np.ones((outputs, inputs)), np.zeros(outputs), relu, name)
        for inputs, outputs, relu, name in ((2, 3, True, "first"), (3, 2, False, "middle"),
                                            (2, 2, True, "last"), (2, 1, False, "out"))
    )
)  # fmt: skip


@pytest.mark.parametrize("subject", [NETWORK, GraphNetwork.from_chain(NETWORK)])
def test_layers_are_counted_among_those_with_a_relu_or_called_by_name(
    subject: Network | GraphNetwork,
) -> None:
    by_index = Pattern.of({0: ([0], [2]), 1: ([], [1])})
    by_name = Pattern.of({"first": ([0], [2]), "last": ([], [1])})
    for pattern in (by_index, by_name):
        found = [each.tolist() for each in phases_of(pattern, subject)]
        assert found == [[1, 0, -1], [], [0, -1], []]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LayerStates(2, (0,)), "ReLU layer 2 does not exist; the network has 2"),
        (LayerStates("middle", (0,)), "'middle' is no ReLU layer; use an index from 0 to 1"),
        (LayerStates(0, (3,)), "neuron 3 does not exist; the layer has 3 neurons"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(layer: LayerStates, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        phases_of(Pattern((layer,)), NETWORK)
    assert "\n" not in str(caught.value)


def test_a_name_of_several_layers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="name of several ReLU layers"):
        phases_of(Pattern.of({"": ([0], [])}), random_chain(0, (2, 2, 2, 1)))


def test_states_given_under_index_and_name_must_agree() -> None:
    with pytest.raises(ConfigurationError, match="both active and inactive"):
        phases_of(Pattern.of({0: ([1], []), "first": ([], [1])}), NETWORK)


def test_borders_belong_to_both_states() -> None:
    phases = phases_of(Pattern.of({0: ([0], [1])}), NETWORK)
    zero, half = Fraction(0), Fraction(1, 2)
    assert follows_exactly([(zero, zero, half)], phases)
    assert follows_exactly([(half, -half, half)], phases)
    assert not follows_exactly([(half, half, half)], phases)


def test_neurons_that_carry_inputs_are_free() -> None:
    wide = random_chain(0, (2, 5, 2, 4, 1))
    layers = tuple(
        AffineLayer(layer.weight, layer.bias, relu, layer.name)
        for layer, relu in zip(wide.layers, (True, False, True, False), strict=True)
    )
    phases = phases_of(Pattern.of({0: ([0], [2])}), NETWORK)
    assert [each.tolist() for each in widened_phases(phases, Network(layers))] == [
        [1, 0, -1, 0, 0], [], [0, 0, 0, 0], [],
    ]  # fmt: skip
