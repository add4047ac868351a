"""One function saved in several ways: other bytes, the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper, version_converter

Resave = Callable[[onnx.ModelProto, Path], onnx.ModelProto]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def rename_everything(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Other names for nodes, tensors, inputs, outputs and producer."""
    renamed = _copy(model)
    graph = renamed.graph
    for node in graph.node:
        node.name = f"new/{node.name}"
        node.input[:] = [f"t_{name}" if name else "" for name in node.input]
        node.output[:] = [f"t_{name}" for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = f"t_{value.name}"
    renamed.producer_name = "somebody else"
    return renamed


def reorder_initialisers(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Initialisers in reverse order, without raw data."""
    reordered = _copy(model)
    tensors = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    names = [tensor.name for tensor in model.graph.initializer]
    del reordered.graph.initializer[:]
    for name, values in reversed(list(zip(names, tensors, strict=True))):
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        reordered.graph.initializer.append(
            helper.make_tensor(name, kind, values.shape, values.ravel().tolist())
        )
    return reordered


def move_weights_into_constants(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Every initialiser as a Constant node: what constant folding undoes."""
    moved = _copy(model)
    nodes = [
        helper.make_node("Constant", [], [tensor.name], f"const_{tensor.name}", value=tensor)
        for tensor in model.graph.initializer
    ]
    nodes += list(moved.graph.node)
    del moved.graph.initializer[:], moved.graph.node[:]
    moved.graph.node.extend(nodes)
    return moved


def split_gemm(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Gemm as a transposed MatMul and an Add with an Identity between."""
    split = _copy(model)
    weights = {tensor.name: tensor for tensor in split.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        data, weight, bias = node.input
        values = numpy_helper.to_array(weights[weight])
        weights[weight].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values.T), weight))
        name = node.output[0]
        nodes += [
            helper.make_node("Transpose", [weight], [f"{name}_w"], f"{name}_t"),
            helper.make_node("MatMul", [data, f"{name}_w"], [f"{name}_m"], f"{name}_mm"),
            helper.make_node("Identity", [f"{name}_m"], [f"{name}_i"], f"{name}_id"),
            helper.make_node("Add", [bias, f"{name}_i"], [name], f"{name}_add"),
        ]
    del split.graph.node[:]
    split.graph.node.extend(nodes)
    return split


def optimise_with_onnxruntime(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """What onnxruntime's extended graph optimisation saves: fused operators."""
    target = folder / "optimised.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(target)


def raise_opset(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Converted to a later operator set."""
    return version_converter.convert_version(model, 19)


RESAVES: Final[dict[str, Resave]] = {
    function.__name__: function
    for function in (
        rename_everything,
        reorder_initialisers,
        move_weights_into_constants,
        split_gemm,
        optimise_with_onnxruntime,
        raise_opset,
    )
}
