"""Small ONNX models with known content, built in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Axes = Sequence[int | str]


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Axes],
    outputs: Mapping[str, Axes | None],
    tensors: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model with float32 inputs and outputs."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (tensors or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="test"
    )


def dense_network(
    sizes: Sequence[int], seed: int = 0, *, batch: int | str = "batch", activation: str = "Relu"
) -> onnx.ModelProto:
    """Gemm layers with an activation between them; Gaussian weights scaled by fan-in."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    tensors: dict[str, Array] = {}
    name = "x"
    for layer, (before, after) in enumerate(pairwise(sizes)):
        weight = rng.standard_normal((before, after)) / np.sqrt(before)
        tensors[f"w{layer}"] = weight.astype(np.float32)
        tensors[f"b{layer}"] = rng.standard_normal(after).astype(np.float32)
        last = layer == len(sizes) - 2
        out = "y" if last else f"z{layer}"
        nodes.append(
            helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [out], f"gemm{layer}")
        )
        name = out
        if not last:
            nodes.append(helper.make_node(activation, [name], [f"a{layer}"], f"act{layer}"))
            name = f"a{layer}"
    return make_model(nodes, {"x": [batch, sizes[0]]}, {"y": [batch, sizes[-1]]}, tensors)


def strided_network(seed: int = 0) -> onnx.ModelProto:
    """A padded, strided, grouped convolution on 1x2x6x5, batch normalisation, ReLU, Gemm."""
    rng = np.random.default_rng(seed)

    def gauss(*shape: int) -> Array:
        return (rng.standard_normal(shape) / 3).astype(np.float32)

    tensors: dict[str, Array] = {
        "k": gauss(4, 1, 3, 2), "c": gauss(4), "w": gauss(36, 3), "b": gauss(3),
        "s": 1 + gauss(4), "o": gauss(4), "m": gauss(4), "v": np.abs(gauss(4)) + 1,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "k", "c"], ["z"], "conv", group=2, strides=[2, 2],
                         pads=[1, 0, 1, 1]),
        helper.make_node("BatchNormalization", ["z", "s", "o", "m", "v"], ["n"], "norm"),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], "dense"),
    ]  # fmt: skip
    return make_model(nodes, {"x": [1, 2, 6, 5]}, {"y": [1, 3]}, tensors)


def conv_network(seed: int = 0, *, batch_norm: bool = False) -> onnx.ModelProto:
    """A convolution on 1x8x8, perhaps batch normalisation, ReLU, pooling, a dense layer."""
    rng = np.random.default_rng(seed)

    def gauss(*shape: int) -> Array:
        return (rng.standard_normal(shape) / 3).astype(np.float32)

    tensors: dict[str, Array] = {
        "k": gauss(4, 1, 3, 3),
        "c": gauss(4),
        "w": gauss(64, 10),
        "b": gauss(10),
    }
    nodes = [helper.make_node("Conv", ["x", "k", "c"], ["z"], "conv", pads=[1, 1, 1, 1])]
    name = "z"
    if batch_norm:
        tensors |= {"s": 1 + gauss(4), "o": gauss(4), "m": gauss(4), "v": np.abs(gauss(4)) + 1}
        nodes.append(
            helper.make_node("BatchNormalization", ["z", "s", "o", "m", "v"], ["n"], "norm")
        )
        name = "n"
    nodes += [
        helper.make_node("Relu", [name], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], "dense"),
    ]
    return make_model(nodes, {"x": ["batch", 1, 8, 8]}, {"y": ["batch", 10]}, tensors)


def write_model(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def external_tensor(
    name: str, dims: Sequence[int], entries: Mapping[str, str], data_type: int = TensorProto.FLOAT
) -> onnx.TensorProto:
    """A tensor that says its data are elsewhere, with exactly these entries."""
    tensor = onnx.TensorProto(name=name, dims=list(dims), data_type=data_type)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_with_tensor(tensor: onnx.TensorProto) -> onnx.ModelProto:
    """`y = x + tensor`, whatever the tensor says of itself."""
    model = make_model(
        [helper.make_node("Add", ["x", tensor.name], ["y"], "add")], {"x": [1, 2]}, {"y": [1, 2]}
    )
    model.graph.initializer.append(tensor)
    return model
