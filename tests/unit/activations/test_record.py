"""Recorded activations of networks whose activations are known."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from auditor.activations.record import activation_tensors, record_activations
from auditor.errors import UnsupportedModel
from auditor.models.torch_graph import TorchGraph
from tests.models.onnx_networks import conv_network, dense_network, make_model


def _planted() -> TorchGraph:
    """Three neurons: x0, -x0 and x0 + x1, through ReLU."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Relu", ["z"], ["hidden"]),
        helper.make_node("Neg", ["hidden"], ["y"]),
    ]
    weights = {"w": np.array([[1.0, -1.0, 1.0], [0.0, 0.0, 1.0]], np.float32)}
    return TorchGraph(make_model(nodes, {"x": ["n", 2]}, {"y": ["n", 3]}, weights))


def test_activations_are_those_of_the_planted_neurons() -> None:
    rows = np.array([[2.0, 1.0], [-3.0, 1.0]])
    found = record_activations(_planted(), rows, ["hidden"], input_shape=[2])
    assert found["hidden"].tolist() == [[2.0, 0.0, 3.0], [0.0, 3.0, 0.0]]


def test_tensors_after_activation_functions_are_listed_in_order() -> None:
    assert activation_tensors(TorchGraph(dense_network([3, 4, 5, 2]))) == ("a0", "a1")


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    graph = TorchGraph(conv_network())
    rows = np.random.default_rng(0).random((5, 64))
    found = record_activations(graph, rows, ["r"], input_shape=[1, 8, 8], batch_size=batch_size)
    whole = record_activations(graph, rows, ["r"], input_shape=[1, 8, 8])
    assert found["r"].shape == (5, 256)
    np.testing.assert_allclose(found["r"], whole["r"], rtol=1e-6)


def test_a_tensor_that_is_not_there_is_named() -> None:
    with pytest.raises(UnsupportedModel, match="'nowhere'"):
        record_activations(_planted(), np.ones((1, 2)), ["nowhere"], input_shape=[2])
