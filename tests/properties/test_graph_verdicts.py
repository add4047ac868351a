"""Verdicts about convolutional and residual networks whose answer is planted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from auditor.errors import UnsupportedModel, UnsupportedProperty
from auditor.findings import Verdict
from auditor.verify.network import (
    AffineLayer,
    GraphLayer,
    GraphNetwork,
    Network,
    Term,
    read_network,
)
from auditor.verify.network.from_onnx import graph_from_onnx
from auditor.verify.network.graph import INPUT
from auditor.verify.outcome import Limits
from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from auditor.verify.search import verify
from tests.models.onnx_networks import make_model
from tests.models.phase_enumeration import minimum_by_phases
from tests.models.relu_chains import (
    absorbing_network,
    disguised_absorbing_network,
    output_at_least,
)


class Runtime:
    """A model in onnxruntime."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.session = onnxruntime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        self.shape = self.session.get_inputs()[0].shape

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[np.floating]:
        return np.asarray(self.session.run(None, {"x": inputs.reshape(self.shape)})[0]).ravel()


def convolutional(seed: int) -> onnx.ModelProto:
    """Two channels on 2 x 3 after a convolution with stride: 8 ReLUs, one output."""
    random = np.random.default_rng(seed)
    tensors = {
        "k": random.standard_normal((2, 1, 2, 2)).astype(np.float32),
        "b": (0.2 * random.standard_normal(2)).astype(np.float32),
        "w": random.standard_normal((8, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["z"], pads=[0, 0, 1, 1], strides=[1, 2]),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("Flatten", ["h"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    return make_model(nodes, {"x": [1, 1, 2, 3]}, {"y": [1, 1]}, tensors)


def dense_chain(network: GraphNetwork) -> Network:
    """The same function as a chain of matrices, from images of unit vectors."""
    layers = []
    for layer in network.layers:
        (term,) = layer.terms
        width = term.map.num_inputs
        alone = GraphNetwork(
            (GraphLayer((Term(INPUT, term.map),), np.zeros(layer.num_outputs)),), width
        )
        layers.append(AffineLayer(alone.evaluate(np.eye(width)).T, layer.bias, layer.relu))
    return Network(tuple(layers))


def box_of(network: GraphNetwork) -> tuple[list[float], list[float]]:
    return [-0.5] * network.num_inputs, [1.0] * network.num_inputs


def at_least(network: GraphNetwork, value: float) -> Property:
    lower, upper = box_of(network)
    row = UnsafeRow((Fraction(1),), Fraction(value), True)
    ends = tuple(map(Fraction, lower)), tuple(map(Fraction, upper))
    return Property("p", (UnsafeCase(*ends, (row,)),), "", "", network.num_inputs, 1)


def true_minimum(network: GraphNetwork) -> float:
    """The least output over the box by brute force over phases, in plain floats."""
    lower, upper = (np.array(end) for end in box_of(network))
    return minimum_by_phases(dense_chain(network), lower, upper)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000))
def test_verdicts_on_both_sides_of_the_true_minimum_are_right(seed: int) -> None:
    proto = convolutional(seed)
    network = graph_from_onnx(proto)
    assert len(network.layers) == 2
    minimum = true_minimum(network)
    below, above = (
        verify(network, at_least(network, minimum + shift), replay=Runtime(proto), seed=1)
        for shift in (-1e-3, 1e-3)
    )
    assert below.verdict is Verdict.HOLDS
    assert above.verdict is Verdict.VIOLATED


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000))
def test_z3_says_the_same_of_a_convolution_as_the_enumerated_phases(seed: int) -> None:
    proto = convolutional(seed)
    network = graph_from_onnx(proto)
    minimum = true_minimum(network)
    below, above = (
        verify(network, at_least(network, minimum + shift), replay=Runtime(proto), engine="z3")
        for shift in (-1e-3, 1e-3)
    )
    assert below.verdict is Verdict.HOLDS, below.reason
    assert above.verdict is Verdict.VIOLATED, above.reason


def test_a_residual_sum_that_cancels_is_proved() -> None:
    """y = x - relu(x) + relu(-x) is 0 for every x."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("Relu", ["n"], ["s"]),
        helper.make_node("Sub", ["x", "r"], ["d"]),
        helper.make_node("Add", ["d", "s"], ["y"]),
    ]
    proto = make_model(nodes, {"x": [1, 1]}, {"y": [1, 1]})
    network = read_network(proto)
    assert isinstance(network, GraphNetwork)
    assert verify(network, at_least(network, -1e-9)).verdict is Verdict.HOLDS
    found = verify(network, at_least(network, 1e-9), replay=Runtime(proto))
    assert found.verdict is Verdict.VIOLATED


def test_a_maximum_over_a_window_is_bounded_exactly() -> None:
    """The largest of six numbers in [-1/2, 1] is at least -1/2, and -1/2 is reached."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 3]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    proto = make_model(nodes, {"x": [1, 1, 2, 3]}, {"y": [1, 1]})
    network = graph_from_onnx(proto)
    assert verify(network, at_least(network, -0.5 - 1e-6)).verdict is Verdict.HOLDS
    found = verify(network, at_least(network, -0.5 + 1e-3), replay=Runtime(proto))
    assert found.verdict is Verdict.VIOLATED


@pytest.mark.slow
@pytest.mark.parametrize("chain", [absorbing_network(), disguised_absorbing_network(27)])
def test_networks_that_fool_floats_do_not_fool_the_graph_engine(chain: Network) -> None:
    """The output reaches -1/2; plain floats say 1/2 everywhere."""
    network = GraphNetwork.from_chain(chain)
    prop = output_at_least(chain, [0.0], [1.0], 0)
    limits = Limits(max_boxes=40, falsifier_evaluations=500)
    assert verify(network, prop, limits=limits).verdict is not Verdict.HOLDS


def softmax_model() -> onnx.ModelProto:
    tensors = {"w": np.array([[1.0, -1.0]], np.float32), "b": np.array([2.0, 0.0], np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    return make_model(nodes, {"x": [1, 1]}, {"y": [1, 2]}, tensors)


def on_outputs(row: UnsafeRow) -> Property:
    """On x in [-1/2, 1]: outputs in the row violate."""
    ends = (Fraction(-1, 2),), (Fraction(1),)
    return Property("p", (UnsafeCase(*ends, (row,)),), "", "", 1, 2)


def test_comparisons_of_softmax_outputs_are_decided_by_logits() -> None:
    """Logits are x + 2 and -x: the first is larger for x > -1."""
    network = read_network(softmax_model())
    smaller = UnsafeRow((Fraction(1), Fraction(-1)), Fraction(0))
    assert verify(network, on_outputs(smaller)).verdict is Verdict.HOLDS
    larger = UnsafeRow((Fraction(-1), Fraction(1)), Fraction(0))
    found = verify(network, on_outputs(larger), replay=Runtime(softmax_model()))
    assert found.verdict is Verdict.VIOLATED


def test_a_threshold_on_a_softmax_output_is_refused() -> None:
    row = UnsafeRow((Fraction(1), Fraction(0)), Fraction(1, 2))
    with pytest.raises(UnsupportedProperty, match="which of two outputs is larger"):
        verify(read_network(softmax_model()), on_outputs(row))


def test_the_engine_for_chains_says_that_it_cannot() -> None:
    network = graph_from_onnx(convolutional(0))
    with pytest.raises(UnsupportedModel, match="chains of dense layers only"):
        verify(network, at_least(network, 100.0), engine="boxes")
