"""Networks as chains: exact evaluation, sizes, refusals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from auditor.errors import UnsupportedModel
from auditor.verify.network import AffineLayer, Network
from tests.models.relu_chains import absorbing_network, chain, distance_network, random_chain


def test_exact_evaluation_keeps_what_floats_absorb() -> None:
    assert absorbing_network().evaluate_exact([Fraction(1, 3)]) == (Fraction(1, 6),)


def test_exact_evaluation_of_a_planted_distance() -> None:
    network = distance_network([0.25, -0.5], 1.0)
    assert network.evaluate_exact([Fraction(1, 7), Fraction(0)]) == (
        abs(Fraction(1, 7) - Fraction(1, 4)) + Fraction(1, 2) + 1,
    )


def test_exact_and_float_evaluation_agree_within_rounding() -> None:
    network = random_chain(1, (3, 7, 5, 2))
    inputs = np.array([0.3, -0.7, 0.11])
    exact = network.evaluate_exact([Fraction(value) for value in inputs.tolist()])
    assert np.allclose([float(v) for v in exact], network.evaluate(inputs[None])[0], atol=1e-13)


def test_weights_of_any_exponent_are_exact() -> None:
    tiny, huge = 2.0**-1074, 2.0**1000
    network = chain(([[tiny, huge]], [-(2.0**-300)], False))
    assert network.evaluate_exact([Fraction(3), Fraction(5)]) == (
        3 * Fraction(tiny) + 5 * Fraction(huge) - Fraction(1, 2**300),
    )


def test_relu_layers_are_listed_with_their_sizes() -> None:
    network = random_chain(0, (2, 4, 3, 1))
    assert [(layer.index, layer.neurons) for layer in network.relu_layers] == [(0, 4), (1, 3)]
    assert (network.num_inputs, network.num_outputs, network.num_relus) == (2, 1, 7)


def test_preactivations_are_the_values_before_each_relu() -> None:
    network = chain(([[1.0], [-1.0]], [0.0, 0.0], True), ([[1.0, 1.0]], [0.5], False))
    first, second = network.preactivations(np.array([[-2.0]]))
    assert first.tolist() == [[-2.0, 2.0]]
    assert second.tolist() == [[2.5]]


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="2 outputs meet 3 inputs"):
        chain(([[1.0], [1.0]], [0, 0], True), ([[1.0, 1.0, 1.0]], [0], False))


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="not finite"):
        Network((AffineLayer(np.array([[np.nan]]), np.zeros(1), relu=False),))
