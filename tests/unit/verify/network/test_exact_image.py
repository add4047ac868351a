"""Exact images agree with the float maps, entry by entry, on numbers that need no rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from auditor.verify.network.exact_image import (
    exact_cost,
    exact_image,
    exact_values,
    has_exact_values,
    layer_image,
)
from auditor.verify.network.graph import INPUT, GraphLayer, GraphNetwork, Term
from auditor.verify.network.linear_map import (
    BlockSumMap,
    ConvolutionMap,
    DenseMap,
    GatherMap,
    LinearMap,
)
from tests.models.relu_chains import random_chain

RANDOM = np.random.default_rng(0)


def whole(*shape: int) -> np.ndarray:
    return RANDOM.integers(-4, 5, shape).astype(np.float64)


MAPS: list[LinearMap] = [
    DenseMap(whole(3, 4)),
    DenseMap(whole(2, 3), blocks=3),
    GatherMap(np.array([2, -1, 0, 2]), 4, whole(4)),
    GatherMap(np.array([1, 1]), 3),
    BlockSumMap(3, 2),
    ConvolutionMap(whole(4, 1, 2, 3), (2, 4, 5), (2, 1), (1, 0, 0, 2), (1, 2), 2),
    ConvolutionMap(whole(2, 3, 2, 2), (3, 3, 3)),
]


@pytest.mark.parametrize("linear", MAPS)
def test_images_of_unit_vectors_are_the_entries_of_the_map(linear: LinearMap) -> None:
    count = linear.num_inputs
    units = [[Fraction(int(i == j)) for j in range(count)] + [Fraction(i)] for i in range(count)]
    layer = GraphLayer((Term(INPUT, linear),), np.zeros(linear.num_outputs))
    network = GraphNetwork((layer,), count)
    expected = np.concatenate(
        [
            network.evaluate(np.eye(count)).T,
            network.evaluate(np.arange(count, dtype=float)[None]).T,
        ],
        axis=1,
    )
    image = exact_image(linear, units)
    assert [[float(value) for value in form] for form in image] == expected.tolist()


def test_a_layer_adds_its_terms_and_its_bias_to_the_constant() -> None:
    double = GatherMap(np.array([0]), 1, np.array([2.0]))
    terms = (Term(INPUT, double), Term(0, GatherMap(np.array([0]), 1)))
    layer = GraphLayer(terms, np.array([0.1]))
    one, seven = Fraction(1), Fraction(7)
    forms = layer_image(layer, {INPUT: [[one, Fraction(0)]], 0: [[one, seven]]})
    assert forms == [[Fraction(3), seven + Fraction(0.1)]]


def test_the_cost_counts_products_over_all_inputs() -> None:
    layer = GraphLayer((Term(INPUT, DenseMap(np.ones((3, 4)))),), np.zeros(3))
    assert exact_cost(GraphNetwork((layer,), 4)) == 3 * 4 * 5


def test_exact_values_are_those_of_the_chain() -> None:
    chain = random_chain(4, (3, 5, 4, 2))
    point = (Fraction(1, 3), Fraction(-2, 7), Fraction(5))
    network = GraphNetwork.from_chain(chain)
    assert has_exact_values(network)
    assert exact_values(network, point) == chain.preactivations_exact(point)
