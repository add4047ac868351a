"""The checker's own reader: the same function as the verifier's, or a refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from auditor.errors import UnsupportedOperator
from auditor.verify.certificate.statement import Float64, Tensor, read_tensors
from auditor.verify.network import read_network
from tests.models.onnx_networks import dense_network, strided_network, write_model
from tests.models.tiny import array, relu_network


def value_at(tensors: tuple[Tensor, ...], point: Float64) -> Float64:
    """The last tensor at a point, in floats."""
    values = [point]
    for tensor in tensors[1:]:
        if tensor.relu >= 0:
            values.append(np.maximum(values[tensor.sources[0]], 0.0))
            continue
        total = tensor.bias
        for source, matrix in zip(tensor.sources, tensor.maps, strict=True):
            image = (
                matrix * values[source] if isinstance(matrix, float) else matrix @ values[source]
            )
            total = total + image
        values.append(total)
    return values[-1]


@pytest.mark.parametrize("proto", [dense_network([3, 5, 4, 2], 1), strided_network()])
def test_both_readers_see_the_same_function(tmp_path: Path, proto: onnx.ModelProto) -> None:
    tensors, _ = read_tensors(write_model(tmp_path, proto))
    points = np.random.default_rng(0).normal(size=(20, len(tensors[0].bias)))
    expected = read_network(proto).evaluate(points)
    found = np.array([value_at(tensors, point) for point in points])
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_an_operator_it_does_not_know_is_named(tmp_path: Path) -> None:
    proto = relu_network([(array([[1.0]]), array([0.0]))], last="Sigmoid")
    with pytest.raises(UnsupportedOperator, match="Sigmoid"):
        read_tensors(write_model(tmp_path, proto))
