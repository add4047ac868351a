"""Folding affine maps: only where no rounding is needed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from auditor.errors import UnsupportedModel
from auditor.verify.network.affine_chain import (
    Chain,
    check_matrix_size,
    exact_product,
    exact_sum,
)
from auditor.verify.network.chain import Network

WEIGHT = np.array([[1.0, 2.0], [3.0, 4.0]])


def test_an_exact_bias_is_folded_into_its_layer() -> None:
    chain = Chain((), (2,)).affine(WEIGHT, np.ones(2), (2,), "a").plus(np.ones(2), "b")
    (layer,) = chain.layers
    assert layer.bias.tolist() == [2.0, 2.0]


def test_a_bias_that_would_round_stays_a_layer_of_its_own() -> None:
    tiny = np.array([2.0**-60, 0.0])
    chain = Chain((), (2,)).affine(WEIGHT, np.ones(2), (2,), "a").plus(tiny, "b")
    assert len(chain.layers) == 2
    exact = Network(chain.layers).evaluate_exact([Fraction(0), Fraction(0)])
    assert exact == (1 + Fraction(1, 2**60), Fraction(1))


def test_a_shift_of_the_input_is_folded_into_the_next_matrix() -> None:
    chain = Chain((), (2,)).plus(np.array([0.5, -0.25]), "mean")
    folded = chain.affine(WEIGHT, np.zeros(2), (2,), "matrix")
    (layer,) = folded.layers
    assert layer.bias.tolist() == [0.0, 0.5]


def test_a_permutation_is_folded_exactly() -> None:
    chain = Chain((), (1, 2)).permuted(np.array([1, 0]), (2, 1), "swap")
    (layer,) = chain.affine(WEIGHT, np.zeros(2), (2,), "matrix").layers
    assert layer.weight.tolist() == [[2.0, 1.0], [4.0, 3.0]]


def test_two_general_matrices_are_not_multiplied() -> None:
    chain = Chain((), (2,)).affine(WEIGHT, np.zeros(2), (2,), "a")
    assert len(chain.affine(WEIGHT, np.zeros(2), (2,), "b").layers) == 2


def test_sums_and_products_that_round_are_reported() -> None:
    one, tiny = np.ones(1), np.full(1, 2.0**-60)
    assert exact_sum(one, tiny) is None
    assert exact_product(np.array([0.1]), np.array([0.1])) is None
    product = exact_product(np.array([1.5]), np.array([0.5]))
    assert product is not None
    assert product.tolist() == [0.75]


def test_a_dense_matrix_that_would_not_fit_is_refused_before_it_exists() -> None:
    with pytest.raises(UnsupportedModel, match="150528 x 150528"):
        check_matrix_size(150528, 150528, "big")
