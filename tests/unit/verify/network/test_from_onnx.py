"""ONNX graphs as chains: the same function as onnxruntime, or a clear refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.errors import UnsupportedModel, UnsupportedOperator
from auditor.verify.network import network_from_onnx
from tests.models.onnx_networks import make_model

RANDOM = np.random.default_rng(5)
W = RANDOM.standard_normal((3, 4)).astype(np.float32)
B = RANDOM.standard_normal(4).astype(np.float32)


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, Any],
    shape: Sequence[int | str] = (1, 3),
    opset: int = 17,
) -> onnx.ModelProto:
    return make_model(nodes, {"x": list(shape)}, {"y": None}, tensors, opset=opset)


SUPPORTED: dict[str, onnx.ModelProto] = {
    "gemm": model([node("Gemm", ["x", "w", "b"], "y", alpha=0.5, beta=2.0)], {"w": W, "b": B}),
    "gemm transposed": model([node("Gemm", ["x", "w"], "y", transB=1)], {"w": W.T.copy()}),
    "matmul add relu": model(
        [node("MatMul", ["x", "w"], "a"), node("Add", ["b", "a"], "c"), node("Relu", ["c"], "y")],
        {"w": W, "b": B},
    ),
    "matrix first": model([node("MatMul", ["w", "x"], "y")], {"w": W.T.copy()}, (3, 1)),
    "constant minus x": model([node("Sub", ["c", "x"], "y")], {"c": W[:, 0]}),
    "scale and negate": model(
        [node("Mul", ["x", "c"], "a"), node("Neg", ["a"], "b"), node("Div", ["b", "d"], "y")],
        {"c": W[:, 1], "d": np.array(4.0, np.float32)},
    ),
    "flatten an image": model(
        [
            node("Transpose", ["x"], "t", perm=[0, 2, 3, 1]),
            node("Flatten", ["t"], "f"),
            node("Dropout", ["f"], "d"),
            node("Identity", ["d"], "i"),
            node("Gemm", ["i", "w"], "y"),
        ],
        {"w": RANDOM.standard_normal((12, 2)).astype(np.float32)},
        ("batch", 3, 2, 2),
    ),
    "shape subgraph": model(
        [
            node("Shape", ["x"], "s"),
            node("Gather", ["s", "zero"], "n"),
            node("Unsqueeze", ["n", "axes"], "u"),
            node("Concat", ["u", "rest"], "target", axis=0),
            node("Reshape", ["x", "target"], "y"),
        ],
        {
            "zero": np.array(0),
            "axes": np.array([0]),
            "rest": np.array([-1]),
        },
        (1, 3, 1),
    ),
    "constants are added exactly": model(
        [node("Add", ["b", "b"], "c"), node("Add", ["x", "c"], "y")], {"b": W[:, 2]}
    ),
    "squeeze and cast": model(
        [
            node("Squeeze", ["x", "axes"], "s"),
            node("Cast", ["s"], "d", to=TensorProto.DOUBLE),
            node("Cast", ["d"], "y", to=TensorProto.FLOAT),
        ],
        {"axes": np.array([0])},
    ),
    "relu twice": model([node("Relu", ["x"], "a"), node("Relu", ["a"], "y")], {}),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_chain_computes_what_onnxruntime_computes(name: str) -> None:
    proto = SUPPORTED[name]
    network = network_from_onnx(proto)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    inputs = RANDOM.standard_normal((20, network.num_inputs)).astype(np.float32)
    for row in inputs:
        (expected,) = session.run(None, {"x": row.reshape(network.input_shape)})
        assert np.allclose(network.evaluate(row[None])[0], expected.ravel(), atol=1e-5)


def test_a_sub_of_zeros_and_a_flatten_leave_no_layer() -> None:
    proto = model(
        [
            node("Sub", ["x", "m"], "a"),
            node("Flatten", ["a"], "f"),
            node("MatMul", ["f", "w"], "z"),
            node("Add", ["z", "b"], "y"),
        ],
        {"m": np.zeros((1, 1, 1, 3), np.float32), "w": W, "b": B},
        (1, 1, 1, 3),
    )
    (layer,) = network_from_onnx(proto).layers
    assert layer.weight.astype(np.float32).tolist() == W.T.tolist()
    assert layer.bias.astype(np.float32).tolist() == B.tolist()


def test_all_unsupported_operators_are_named_at_once() -> None:
    proto = model(
        [node("Sin", ["x"], "a"), helper.make_node("Tanh", ["a"], ["y"], name="squash")], {}
    )
    with pytest.raises(UnsupportedOperator) as caught:
        network_from_onnx(proto)
    assert caught.value.operators == (("Sin", "#0 -> a"), ("Tanh", "squash"))


def test_a_weight_that_is_not_finite_is_named_with_its_place() -> None:
    broken = W.copy()
    broken[2, 1] = np.inf
    with pytest.raises(UnsupportedModel, match=r"initialiser 'w': value at \[2, 1\] is inf"):
        network_from_onnx(model([node("MatMul", ["x", "w"], "y")], {"w": broken}))


REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "residual": (model([node("Add", ["x", "x"], "y")], {}), "two branches"),
    "product": (model([node("Mul", ["x", "x"], "y")], {}), "multiplied"),
    "inexact divisor": (
        model([node("Div", ["x", "d"], "y")], {"d": np.array(255, np.float32)}),
        "power of two",
    ),
    "inexact constants": (
        model(
            [node("Add", ["a", "b"], "c"), node("Add", ["x", "c"], "y")],
            {"a": np.array(1.0), "b": np.array(2.0**-60)},
        ),
        "round",
    ),
    "training": (
        model([node("Dropout", ["x", "", "t"], "y")], {"t": np.array(True)}),
        "training",
    ),
    "cast to integers": (model([node("Cast", ["x"], "y", to=TensorProto.INT64)], {}), "cast"),
    "rows": (model([node("Gemm", ["x", "w"], "y")], {"w": W}, (2, 3)), "2 rows"),
    "wrong size": (model([node("MatMul", ["x", "w"], "y")], {"w": W.T.copy()}), "3 elements"),
    "dynamic": (model([node("Relu", ["x"], "y")], {}, (1, "n")), "not fixed"),
    "constant output": (model([node("Identity", ["c"], "y")], {"c": W}), "does not depend"),
    "missing tensor": (model([node("Add", ["x", "nowhere"], "y")], {}), "no earlier node"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_expressed_is_refused_with_its_reason(name: str) -> None:
    proto, message = REFUSED[name]
    with pytest.raises(UnsupportedModel, match=message):
        network_from_onnx(proto)


def test_external_data_are_refused() -> None:
    proto = model([node("MatMul", ["x", "w"], "y")], {"w": W})
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(UnsupportedModel, match="another file"):
        network_from_onnx(proto)


def test_a_constant_node_is_read() -> None:
    value = numpy_helper.from_array(W)
    proto = model([node("Constant", [], "w", value=value), node("MatMul", ["x", "w"], "y")], {})
    assert network_from_onnx(proto).layers[0].weight.tolist() == W.T.astype(float).tolist()
