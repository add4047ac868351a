"""Batch normalisation as an affine map within one rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from onnx import helper

from auditor.verify.network.from_onnx import graph_from_onnx
from auditor.verify.network.linear_map import GatherMap
from tests.models.onnx_networks import make_model


def test_factors_of_batch_normalisation_are_within_one_rounding_of_exact() -> None:
    """With factor f = s / sqrt(v + e): f^2 (v + e) differs from s^2 by 4 roundings at most."""
    random = np.random.default_rng(2)
    scale, variance = (np.abs(random.standard_normal(5)).astype(np.float32) + 1 for _ in "sv")
    zeros = np.zeros(5, np.float32)
    tensors = {"s": scale, "o": zeros, "m": zeros, "v": variance}
    node = helper.make_node("BatchNormalization", ["x", "s", "o", "m", "v"], ["y"], epsilon=1e-5)
    network = graph_from_onnx(make_model([node], {"x": [1, 5]}, {"y": [1, 5]}, tensors))
    linear = network.layers[0].terms[0].map
    assert isinstance(linear, GatherMap)
    assert linear.factor is not None
    epsilon = Fraction(float(np.float32(1e-5)))
    for factor, s, v in zip(linear.factor.tolist(), scale.tolist(), variance.tolist(), strict=True):
        square = Fraction(factor) ** 2 * (Fraction(v) + epsilon)
        assert abs(square - Fraction(s) ** 2) <= Fraction(s) ** 2 * 4 / 2**53
