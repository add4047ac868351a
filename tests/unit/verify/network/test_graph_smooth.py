"""Reading Sigmoid, Tanh and Sign: layers carry a curve, and nothing is merged across it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from auditor.errors import UnsupportedModel
from auditor.verify.network import GraphLayer, GraphNetwork, Term, read_network
from auditor.verify.network.curve import Curve
from auditor.verify.network.graph import INPUT, as_chain
from auditor.verify.network.linear_map import identity_map
from tests.models.onnx_networks import dense_network, make_model

VALUES = np.array([[-2.0, -0.0, 0.5]])
EXPECTED = {
    Curve.SIGMOID: 1.0 / (1.0 + np.exp(-VALUES)),
    Curve.TANH: np.tanh(VALUES),
    Curve.SIGN: np.sign(VALUES),
}


@pytest.mark.parametrize("curve", Curve)
def test_a_curve_at_the_end_is_evaluated(curve: Curve) -> None:
    proto = make_model([helper.make_node(curve.value, ["x"], ["y"])], {"x": [1, 3]}, {"y": [1, 3]})
    network = read_network(proto)
    np.testing.assert_allclose(network.evaluate(VALUES), EXPECTED[curve], rtol=1e-15)


def test_a_curve_joins_the_layer_before_it_and_keeps_its_name() -> None:
    network = read_network(dense_network((2, 4, 1), activation="Tanh"))
    assert isinstance(network, GraphNetwork)
    assert [layer.curve for layer in network.layers] == [Curve.TANH, None]
    assert [layer.name for layer in network.curved_layers] == ["act0"]
    assert as_chain(network) is None


def test_a_curve_of_a_curve_stays_two_layers() -> None:
    nodes = [helper.make_node("Sign", ["x"], ["s"]), helper.make_node("Tanh", ["s"], ["y"])]
    network = read_network(make_model(nodes, {"x": [1, 3]}, {"y": [1, 3]}))
    np.testing.assert_allclose(network.evaluate(VALUES), np.tanh(np.sign(VALUES)))


@pytest.mark.parametrize("curve", Curve)
def test_gradients_are_those_of_finite_differences(curve: Curve) -> None:
    network = read_network(dense_network((3, 5, 4, 2), activation=curve.value))
    points = np.random.default_rng(2).standard_normal((6, 3))
    rows = np.tile([1.0, -0.5], (6, 1))
    gradient = network.gradient(network.preactivations(points), rows)
    if curve is Curve.SIGN:
        assert gradient.any()  # the true one is zero and would lead nowhere
        return
    for index in range(3):
        step = np.zeros(3)
        step[index] = 1e-6
        change = network.evaluate(points + step) - network.evaluate(points - step)
        np.testing.assert_allclose(gradient[:, index], (change * rows).sum(axis=1) / 2e-6, 1e-5)


def test_a_constant_argument_is_refused() -> None:
    nodes = [helper.make_node("Tanh", ["c"], ["t"]), helper.make_node("Add", ["x", "t"], ["y"])]
    proto = make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}, {"c": np.ones((1, 2), np.float32)})
    with pytest.raises(UnsupportedModel, match="constant argument"):
        read_network(proto)


def test_two_activations_on_one_layer_are_refused() -> None:
    layer = GraphLayer((Term(INPUT, identity_map(2)),), np.zeros(2), True, "both", Curve.SIGN)
    with pytest.raises(UnsupportedModel, match="two activations"):
        GraphNetwork((layer,), 2)
