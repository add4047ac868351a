"""Reading an ONNX graph as a chain of affine maps and ReLUs, or as a graph of them.

Operators that cannot be expressed are collected first and reported together, before
any work. Constants are folded where folding only moves numbers or is exact. A
dynamic batch dimension counts as 1. A model without branches and convolutions becomes a
chain, which every engine understands; any other becomes a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from auditor.errors import UnsupportedModel, UnsupportedOperator
from auditor.verify.network.affine_chain import Chain
from auditor.verify.network.chain import Network
from auditor.verify.network.graph import GraphNetwork, as_chain
from auditor.verify.network.graph_activations import ACTIVATIONS
from auditor.verify.network.graph_arithmetic import ARITHMETIC
from auditor.verify.network.graph_convolutions import CONVOLUTIONS
from auditor.verify.network.graph_pooling import POOLING
from auditor.verify.network.graph_selection import SELECTION
from auditor.verify.network.graph_smooth import SMOOTH
from auditor.verify.network.graph_tensor import GraphTensor, finished
from auditor.verify.network.operators import OPERATORS, NodeView, Value
from auditor.verify.network.symbolic import Symbolic

Operator = Callable[[NodeView], Value | tuple[Value, ...]]
GRAPH_OPERATORS: Mapping[str, Operator] = {
    **OPERATORS,
    **ACTIVATIONS,
    **ARITHMETIC,
    **CONVOLUTIONS,
    **POOLING,
    **SELECTION,
    **SMOOTH,
}

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
MAX_ELEMENTS = 100_000_000


def read_network(proto: onnx.ModelProto) -> Network | GraphNetwork:
    """The network that an ONNX model defines over the real numbers.

    Args:
        proto: A model whose tensors are inside the protobuf (no external data).

    Returns:
        A chain where the model is one and its layers fit, else a graph.

    Raises:
        UnsupportedOperator: Operators that cannot be expressed, all at once.
        UnsupportedModel: A shape, type or value that cannot be handled.
    """
    _refuse_unsupported(proto.graph, GRAPH_OPERATORS)
    if all(node.op_type in OPERATORS for node in proto.graph.node):
        try:
            return network_from_onnx(proto)
        except UnsupportedModel:
            pass  # the general form may do, and has the clearer message if it does not
    graph = graph_from_onnx(proto)
    return as_chain(graph) or graph


def network_from_onnx(proto: onnx.ModelProto) -> Network:
    """The model as a chain of affine maps and ReLUs; see `read_network`.

    Raises:
        UnsupportedOperator: Operators that cannot be expressed, all at once.
        UnsupportedModel: A shape, type or value that cannot be handled, or branches.
    """
    _refuse_unsupported(proto.graph, OPERATORS)
    name, shape, final = _run(proto.graph, OPERATORS, lambda shape: Chain((), shape))
    if not isinstance(final, Chain):
        raise UnsupportedModel(
            f"output '{proto.graph.output[0].name}' does not depend on the input"
        )
    if not final.layers:
        zeros = np.zeros(final.size)
        final = final.affine(np.eye(final.size), zeros, final.shape, "identity")
    return Network(final.layers, input_name=name, input_shape=shape)


def graph_from_onnx(proto: onnx.ModelProto) -> GraphNetwork:
    """The model as a graph of linear maps and activations; see `read_network`."""
    _refuse_unsupported(proto.graph, GRAPH_OPERATORS)
    name, shape, final = _run(proto.graph, GRAPH_OPERATORS, GraphTensor.of_input)
    if not isinstance(final, GraphTensor):
        raise UnsupportedModel(
            f"output '{proto.graph.output[0].name}' does not depend on the input"
        )
    return finished(final, name, shape)


def _run(
    graph: onnx.GraphProto,
    operators: Mapping[str, Operator],
    start: Callable[[tuple[int, ...]], Symbolic],
) -> tuple[str, tuple[int, ...], Value]:
    """Carry the input through every node: its name, its shape, and the output."""
    values: dict[str, Value] = {}
    for tensor in graph.initializer:
        values[tensor.name] = _constant(tensor)
    if graph.sparse_initializer:
        raise UnsupportedModel("sparse initialisers", way_out="store the weights densely")
    name, shape = _input(graph, values)
    values[name] = start(shape)
    for index, node in enumerate(graph.node):
        view = NodeView(node, node_name(node, index), _arguments(node, index, values))
        result = operators[node.op_type](view)
        results = result if isinstance(result, tuple) else (result,)
        for output, value in zip(node.output, results, strict=False):
            if not isinstance(value, Symbolic):
                _refuse_not_finite(value, view.name)
            values[output] = value
    if len(graph.output) != 1:
        raise UnsupportedModel(
            f"{len(graph.output)} outputs", way_out="keep only the output the property is about"
        )
    if graph.output[0].name not in values:
        raise UnsupportedModel(f"output '{graph.output[0].name}' is given by no node")
    return name, shape, values[graph.output[0].name]


def node_name(node: onnx.NodeProto, index: int) -> str:
    """A name for messages: the node's own, or its place and output."""
    return node.name or f"#{index} -> {next(iter(node.output), '')}"


def _refuse_unsupported(graph: onnx.GraphProto, operators: Mapping[str, Operator]) -> None:
    unsupported = [
        (f"{node.domain}::{node.op_type}" if node.domain else node.op_type, node_name(node, index))
        for index, node in enumerate(graph.node)
        if node.op_type not in operators or node.domain not in ("", "ai.onnx")
    ]
    if unsupported:
        raise UnsupportedOperator(unsupported, sorted(operators))


def _constant(tensor: onnx.TensorProto) -> NDArray[np.generic]:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise UnsupportedModel(
            "its data lie in another file",
            place=f"initialiser '{tensor.name}'",
            way_out="load the model with its tensors inlined",
        )
    count = 1
    for dimension in tensor.dims:
        count *= dimension
    if count > MAX_ELEMENTS or any(dimension < 0 for dimension in tensor.dims):
        raise UnsupportedModel(f"shape {list(tensor.dims)}", place=f"initialiser '{tensor.name}'")
    try:
        array: NDArray[np.generic] = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise UnsupportedModel(
            f"cannot be decoded: {error}", place=f"initialiser '{tensor.name}'"
        ) from None
    _refuse_not_finite(array, tensor.name)
    return array


def _refuse_not_finite(array: NDArray[np.generic], name: str) -> None:
    if not np.issubdtype(array.dtype, np.floating):
        return
    bad = np.argwhere(~np.isfinite(array.astype(np.float64)))
    if bad.size:
        index = ", ".join(str(int(part)) for part in bad[0])
        raise UnsupportedModel(
            f"value at [{index}] is {array[tuple(bad[0])]}",
            place=f"initialiser '{name}'",
            way_out="no property of such a model can be decided",
        )


def _input(graph: onnx.GraphProto, known: Mapping[str, Value]) -> tuple[str, tuple[int, ...]]:
    inputs = [value for value in graph.input if value.name not in known]
    if len(inputs) != 1:
        raise UnsupportedModel(
            f"{len(inputs)} inputs", way_out="only models with exactly one input are handled"
        )
    (value,) = inputs
    tensor = value.type.tensor_type
    if tensor.elem_type not in _FLOATS or not tensor.HasField("shape"):
        raise UnsupportedModel("not a float tensor of known rank", place=f"input '{value.name}'")
    shape = []
    for position, dimension in enumerate(tensor.shape.dim):
        size = dimension.dim_value
        if size <= 0:
            if position != 0:
                raise UnsupportedModel(
                    f"dimension {position} is not fixed",
                    place=f"input '{value.name}'",
                    way_out="export the model with fixed sizes (the batch may stay dynamic)",
                )
            size = 1
        shape.append(int(size))
    if int(np.prod(shape, dtype=object)) > MAX_ELEMENTS:
        raise UnsupportedModel(f"shape {shape} is too large", place=f"input '{value.name}'")
    return value.name, tuple(shape)


def _arguments(
    node: onnx.NodeProto, index: int, values: Mapping[str, Value]
) -> Sequence[Value | None]:
    missing = [name for name in node.input if name and name not in values]
    if missing:
        raise UnsupportedModel(
            f"reads '{missing[0]}', which no earlier node gives",
            place=f"node '{node_name(node, index)}'",
        )
    return [values[name] if name else None for name in node.input]
