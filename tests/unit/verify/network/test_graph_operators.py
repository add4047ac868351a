"""Operators of graphs: every supported form computes what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from auditor.errors import UnsupportedModel, UnsupportedOperator
from auditor.verify.network import GraphNetwork, Network, read_network
from auditor.verify.network.from_onnx import graph_from_onnx
from tests.models.onnx_networks import conv_network, make_model

RANDOM = np.random.default_rng(11)


def gauss(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    given = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(op, given, outputs.split(), **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, Any] | None = None,
    shape: Sequence[int | str] = (1, 2, 5, 6),
    opset: int = 17,
) -> onnx.ModelProto:
    return make_model(nodes, {"x": list(shape)}, {"y": None}, tensors, opset=opset)


def one(op: str, tensors: Mapping[str, Any] | None = None, **attributes: Any) -> onnx.ModelProto:
    """One node on an image of two channels."""
    names = " ".join(["x", *(tensors or {})])
    return model([node(op, names, "y", **attributes)], tensors)


def on(shape: Sequence[int], op: str, tensors: Mapping[str, Any], **attributes: Any) -> Any:
    return model([node(op, " ".join(["x", *tensors]), "y", **attributes)], tensors, shape)


NORM = {"s": gauss(2), "o": gauss(2), "m": gauss(2), "v": np.abs(gauss(2)) + 0.1}

SUPPORTED: dict[str, onnx.ModelProto] = {
    "convolution": one("Conv", {"k": gauss(3, 2, 3, 2), "b": gauss(3)}, pads=[1, 0, 2, 1]),
    "strided convolution": one("Conv", {"k": gauss(4, 2, 2, 3)}, strides=[2, 3]),
    "dilated convolution": one("Conv", {"k": gauss(1, 2, 2, 2)}, dilations=[2, 3]),
    "grouped convolution": one("Conv", {"k": gauss(4, 1, 3, 3)}, group=2, pads=[1, 1, 1, 1]),
    "same upper": one("Conv", {"k": gauss(2, 2, 2, 4)}, auto_pad="SAME_UPPER", strides=[2, 1]),
    "same lower": one("Conv", {"k": gauss(2, 2, 4, 2)}, auto_pad="SAME_LOWER", strides=[1, 2]),
    "valid": one("Conv", {"k": gauss(2, 2, 2, 2)}, auto_pad="VALID"),
    "convolution 1-D": on([1, 3, 9], "Conv", {"k": gauss(2, 3, 4)}, strides=[2], pads=[1, 2]),
    "batch normalisation": one("BatchNormalization", NORM, epsilon=1e-3),
    "absolute value": one("Abs"),
    "leaky relu": one("LeakyRelu", alpha=0.3),
    "steep leaky relu": one("LeakyRelu", alpha=1.7),
    "parametric relu": one("PRelu", {"a": gauss(2, 1, 1)}),
    "clip": one("Clip", {"l": np.float32(-0.5), "h": np.float32(0.7)}),
    "clip above only": model([node("Clip", "x _ h", "y")], {"h": np.array(0.2, dtype=np.float32)}),
    "relu6 of old": model([node("Clip", "x", "y", min=0.0, max=0.5)], opset=10),
    "hard sigmoid": one("HardSigmoid", alpha=0.4, beta=0.3),
    "maximum with a constant": one("Max", {"c": gauss(6)}),
    "minimum with a constant": one("Min", {"c": gauss(5, 1)}),
    "max pooling": one("MaxPool", kernel_shape=[2, 3], strides=[1, 2], pads=[1, 1, 0, 1]),
    "max pooling rounded up": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "max pooling 1-D": on([1, 2, 7], "MaxPool", {}, kernel_shape=[3], strides=[2]),
    "dilated max pooling": one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]),
    "average pooling": one("AveragePool", kernel_shape=[3, 2], pads=[1, 1, 1, 1]),
    "average with padding": one(
        "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "global average": one("GlobalAveragePool"),
    "global maximum": one("GlobalMaxPool"),
    "mean over axes": one("ReduceMean", axes=[1, 3], keepdims=0),
    "mean over everything": one("ReduceMean"),
    "sum over an axis": one("ReduceSum", {"a": ints(-1)}, keepdims=1),
    "concatenate": model(
        [node("Relu", "x", "r"), node("Concat", "x r c", "y", axis=1)], {"c": gauss(1, 1, 5, 6)}
    ),
    "split and subtract": model(
        [node("Split", "x", "a b", axis=3), node("Relu", "a", "r"), node("Sub", "r b", "y")],
        opset=13,
    ),
    "slice": one("Slice", {"s": ints(1, -1), "e": ints(9, -7), "a": ints(2, 3), "t": ints(2, -2)}),
    "gather": one("Gather", {"i": ints(3, 0, -1, 3)}, axis=3),
    "pad with a value": one(
        "Pad", {"p": ints(0, 0, 1, 0, 0, 1, 0, 2), "v": np.array(1.5, np.float32)}
    ),
    "reflect": one("Pad", {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)}, mode="reflect"),
    "expand": model(
        [node("ReduceMean", "x", "m", axes=[3]), node("Expand", "m s", "y")],
        {"s": ints(1, 2, 5, 4)},
    ),
    "transpose": one("Transpose", perm=[0, 3, 1, 2]),
    "divide": one("Div", {"c": gauss(2, 1, 1)}),
    "rows times a matrix": one("MatMul", {"w": gauss(6, 3)}),
    "matrix times columns": model([node("MatMul", "w x", "y")], {"w": gauss(3, 5)}),
    "gemm of rows": on([4, 3], "Gemm", {"w": gauss(3, 2), "b": gauss(4, 1)}, beta=0.5),
    "gemm turned": on([3, 4], "Gemm", {"w": gauss(2, 3)}, transA=1, transB=1),
    "residual": model(
        [
            node("Conv", "x k", "c", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node("Conv", "r k", "d", pads=[1, 1, 1, 1]),
            node("Add", "d x", "s"),
            node("Relu", "s", "t"),
            node("Add", "t s", "u"),
            node("GlobalAveragePool", "u", "g"),
            node("Flatten", "g", "y"),
        ],
        {"k": gauss(2, 2, 3, 3)},
    ),
    "twice the same": model([node("Add", "x x", "y")]),
    "branches of two sizes": model(
        [
            node("ReduceMean", "x", "m", axes=[2, 3]),
            node("Max", "x m", "a"),
            node("Min", "a x", "y"),
        ]
    ),
    "normalised and pooled": conv_network(3, batch_norm=True),
}


def run(proto: onnx.ModelProto, inputs: Any) -> Any:
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_graph_computes_what_onnxruntime_computes(name: str) -> None:
    proto = SUPPORTED[name]
    network = graph_from_onnx(proto)
    random = np.random.default_rng(1)
    for _ in range(4):
        inputs = random.standard_normal(network.input_shape).astype(np.float32)
        expected = run(proto, inputs).ravel()
        actual = network.evaluate(inputs.reshape(1, -1).astype(np.float64))[0]
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["convolution", "residual", "normalised and pooled"])
def test_branches_and_convolutions_are_read_as_graphs(name: str) -> None:
    assert isinstance(read_network(SUPPORTED[name]), GraphNetwork)


def test_a_plain_chain_stays_a_chain() -> None:
    proto = on([1, 3], "Gemm", {"w": gauss(3, 2), "b": gauss(2)})
    assert isinstance(read_network(proto), Network)


def test_a_split_whose_parts_go_one_way_becomes_a_small_chain() -> None:
    nodes = [node("Split", "x", "a b", axis=1), node("Gemm", "b w", "y")]
    network = read_network(model(nodes, {"w": gauss(3, 2)}, (1, 6), opset=13))
    assert isinstance(network, Network)


def test_a_final_softmax_is_left_out_and_said() -> None:
    nodes = [node("Gemm", "x w", "z"), node("Softmax", "z", "y", axis=1)]
    network = read_network(model(nodes, {"w": gauss(3, 4)}, (1, 3)))
    assert isinstance(network, GraphNetwork)
    assert network.only_order


def test_a_softmax_inside_is_refused() -> None:
    nodes = [node("Softmax", "x", "s", axis=1), node("Gemm", "s w", "y")]
    with pytest.raises(UnsupportedModel, match="softmax that is not the last"):
        read_network(model(nodes, {"w": gauss(3, 4)}, (1, 3)))


def test_unsupported_operators_are_listed_together_with_their_nodes() -> None:
    nodes = [node("Erf", "x", "a", name="first"), node("Sin", "a", "y", name="second")]
    with pytest.raises(UnsupportedOperator, match="Erf at node 'first', Sin at node 'second'"):
        read_network(model(nodes))


def test_a_relu_joins_the_convolution_it_acts_on() -> None:
    nodes = [node("Conv", "x k", "c"), node("Relu", "c", "y")]
    network = graph_from_onnx(model(nodes, {"k": gauss(2, 2, 2, 2)}))
    assert [layer.relu for layer in network.layers] == [True]


REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "product of branches": (model([node("Mul", "x x", "y")]), "are multiplied"),
    "division by zero": (one("Div", {"c": np.array(0, np.float32)}), "division by zero"),
    "groups": (one("Conv", {"k": gauss(4, 2, 3, 3)}, group=2), "2 groups"),
    "window in the padding": (
        one("MaxPool", kernel_shape=[2, 2], pads=[2, 2, 2, 2]), "padding alone"
    ),
    "positions": (model([node("MaxPool", "x", "y i", kernel_shape=[2, 2])]), "second output"),
    "softmax over rows": (one("Softmax", axis=3), "does not run over all"),
    "training": (one("BatchNormalization", NORM, training_mode=1), "training mode"),
    "reversed limits": (
        one("Clip", {"l": np.float32(1), "h": np.float32(0)}), "wrong order"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_problem(name: str) -> None:
    proto, text = REFUSED[name]
    with pytest.raises(UnsupportedModel, match=text):
        read_network(proto)


@pytest.mark.parametrize(
    ("name", "rounded"),
    [
        ("divide", True), ("batch normalisation", True), ("leaky relu", False),
        ("average pooling", True), ("mean over everything", True), ("convolution", False),
        ("clip", False), ("max pooling", False), ("hard sigmoid", False),
    ],
)  # fmt: skip
def test_numbers_that_had_to_be_rounded_are_said(name: str, rounded: bool) -> None:
    assert graph_from_onnx(SUPPORTED[name]).rounded is rounded


def test_a_slope_so_small_that_one_less_it_is_no_float_is_rounded() -> None:
    assert graph_from_onnx(one("LeakyRelu", alpha=1e-12)).rounded


def test_quotients_that_need_no_rounding_are_exact() -> None:
    for proto in (
        one("Div", {"c": np.array([0.25], np.float32)}),
        on([1, 1, 4, 4], "AveragePool", {}, kernel_shape=[2, 2], strides=[2, 2]),
    ):
        assert not graph_from_onnx(proto).rounded
