"""Tiny ONNX models whose behaviour is known by construction, built in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]


def relu_network(layers: Weights, *, last: str = "") -> onnx.ModelProto:
    """A chain x -> Gemm -> Relu -> ... -> Gemm; `last` names an operator put at the end."""
    nodes, stored, name = [], [], "x"
    for number, (weight, bias) in enumerate(layers):
        stored += [
            numpy_helper.from_array(weight, f"w{number}"),
            numpy_helper.from_array(bias, f"b{number}"),
        ]
        final = number == len(layers) - 1
        out = "y" if final and not last else f"z{number}"
        inputs = [name, f"w{number}", f"b{number}"]
        nodes.append(helper.make_node("Gemm", inputs, [out], f"gemm{number}", transB=1))
        if final and last:
            nodes.append(helper.make_node(last, [out], ["y"], f"the_{last.lower()}"))
        elif not final:
            name = f"h{number}"
            nodes.append(helper.make_node("Relu", [out], [name], f"relu{number}"))
    inputs_count, outputs_count = layers[0][0].shape[1], layers[-1][0].shape[0]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs_count])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs_count])],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def array(values: object) -> NDArray[np.float32]:
    """Values as float32."""
    return np.asarray(values, dtype=np.float32)


def absolute_value() -> onnx.ModelProto:
    """y = |x| for one input, as relu(x) + relu(-x)."""
    return relu_network([(array([[1], [-1]]), array([0, 0])), (array([[1, 1]]), array([0]))])


def comparison() -> onnx.ModelProto:
    """Two inputs a, b in; scores (a, b) out for a, b >= 0: class 0 iff a > b."""
    return relu_network(
        [(array([[1, 0], [0, 1]]), array([0, 0])), (array([[1, 0], [0, 1]]), array([0, 0]))]
    )
