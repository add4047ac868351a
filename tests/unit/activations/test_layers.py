"""Which activation layers a graph has, under the names the verifier uses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from auditor.activations.layers import activation_layers, choose_layers
from auditor.errors import UnknownName, UnsupportedModel
from tests.models.onnx_networks import dense_network, make_model


def _graph(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    weights = {"c": np.ones((1, 2), np.float32)}
    return make_model(nodes, {"x": ["n", 2]}, {"y": ["n", 2]}, weights).graph


def test_layers_are_listed_with_the_tensors_around_them() -> None:
    first, second = activation_layers(dense_network([3, 4, 5, 2]).graph)
    assert (first.name, first.operator, first.before, first.after) == ("act0", "Relu", "z0", "a0")
    assert (second.name, second.has_sign) == ("act1", True)


def test_a_node_without_a_name_is_called_by_its_place() -> None:
    graph = _graph([
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Neg", ["t"], ["y"]),
    ])  # fmt: skip
    (layer,) = activation_layers(graph)
    assert (layer.name, layer.has_sign) == ("#0 -> t", False)


def test_constants_and_dead_ends_are_left_out() -> None:
    graph = _graph([
        helper.make_node("Relu", ["c"], ["folded"], "of-a-constant"),
        helper.make_node("Relu", ["x"], ["unused"], "dead-end"),
        helper.make_node("Relu", ["x"], ["used"], "used"),
        helper.make_node("Add", ["used", "folded"], ["y"], "sum"),
    ])  # fmt: skip
    assert [layer.name for layer in activation_layers(graph)] == ["used"]


def test_two_layers_of_one_name_are_refused() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "r"),
        helper.make_node("Relu", ["a"], ["y"], "r"),
    ]
    with pytest.raises(UnsupportedModel, match="'r' is the name of more than one"):
        activation_layers(_graph(nodes))


def test_layers_are_chosen_in_graph_order() -> None:
    layers = activation_layers(dense_network([3, 4, 5, 6, 2]).graph)
    assert choose_layers(layers) == layers
    assert choose_layers(layers, ["act2", 0]) == (layers[0], layers[2])
    assert choose_layers(layers, ["1"]) == (layers[1],)
    with pytest.raises(UnknownName, match="unknown layer '3'"):
        choose_layers(layers, [3])
    with pytest.raises(UnsupportedModel, match="no hidden activation layer"):
        choose_layers(())
