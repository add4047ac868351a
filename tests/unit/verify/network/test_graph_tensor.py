"""Graphs are merged only where nothing is rounded and nobody else reads."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.errors import UnsupportedModel
from auditor.verify.network.graph import INPUT, GraphLayer, GraphNetwork, Term, as_chain
from auditor.verify.network.graph_tensor import GraphTensor, added, finished
from auditor.verify.network.linear_map import DenseMap, GatherMap, identity_map


def start(size: int = 2) -> GraphTensor:
    return GraphTensor.of_input((1, size))


def network_of(tensor: GraphTensor) -> GraphNetwork:
    return finished(tensor, "x", (1, 2))


def test_a_bias_and_a_relu_join_their_layer() -> None:
    dense = start().affine(np.eye(2), np.zeros(2), (1, 2), "dense")
    network = network_of(dense.plus(np.array([1.0, 2.0]), "add").rectified("relu"))
    (layer,) = network.layers
    assert layer.relu
    assert layer.bias.tolist() == [1.0, 2.0]
    assert layer.name == "relu"


def test_biases_whose_sum_would_round_stay_apart() -> None:
    dense = start().affine(np.eye(2), np.ones(2), (1, 2), "dense")
    network = network_of(dense.plus(np.full(2, 2.0**-60), "add"))
    assert len(network.layers) == 2


def test_a_layer_that_two_read_is_kept() -> None:
    dense = start().affine(np.eye(2), np.zeros(2), (1, 2), "dense")
    network = network_of(added(dense, dense.rectified("relu"), "sum"))
    assert [layer.relu for layer in network.layers] == [False, True, False]
    assert network.evaluate(np.array([[-1.0, 3.0]])).tolist() == [[-1.0, 6.0]]


def test_a_maximum_is_the_larger_element_by_element() -> None:
    first = start()
    second = first.scaled(np.array([-1.0, 2.0]), "scaled")
    network = network_of(first.maximum(second, "max"))
    assert network.evaluate(np.array([[-1.0, 3.0], [2.0, -4.0]])).tolist() == [[1, 6], [2, -4]]


def test_layers_that_nobody_needs_are_dropped() -> None:
    tensor = start()
    tensor.rectified("unused")
    network = network_of(tensor.plus(np.ones(2), "used"))
    assert [layer.name for layer in network.layers] == ["used"]


def test_the_input_itself_as_output_is_one_layer() -> None:
    network = network_of(start())
    assert network.evaluate(np.array([[1.0, -2.0]])).tolist() == [[1.0, -2.0]]


def test_a_graph_without_branches_becomes_a_chain_of_the_same_function() -> None:
    blocks = DenseMap(np.array([[1.0, 2.0]]), blocks=2)
    layers = (
        GraphLayer((Term(INPUT, GatherMap(np.array([3, 2, 1, -1]), 4)),), np.ones(4), relu=True),
        GraphLayer((Term(0, blocks),), np.zeros(2)),
    )
    graph = GraphNetwork(layers, 4)
    chain = as_chain(graph)
    assert chain is not None
    points = np.random.default_rng(0).standard_normal((5, 4))
    assert np.array_equal(chain.evaluate(points), graph.evaluate(points))


def test_a_rounded_factor_keeps_a_graph_a_graph() -> None:
    """A chain promises exactly the stored numbers; a quotient is not one."""
    third = GatherMap(np.array([0, 1]), 2, np.full(2, 1 / 3))
    graph = GraphNetwork((GraphLayer((Term(INPUT, third),), np.zeros(2)),), 2)
    assert as_chain(graph) is None


def test_sizes_that_do_not_agree_are_refused() -> None:
    layer = GraphLayer((Term(INPUT, identity_map(3)),), np.zeros(3))
    with pytest.raises(UnsupportedModel, match="sizes do not agree"):
        GraphNetwork((layer,), 2)
