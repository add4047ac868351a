"""Nodes and tensors put into an ONNX graph at their topological place, all others left alone.

A value that is changed for everybody keeps its name: the node that made it makes it under another.
A value that is changed only where a router chooses gets a second name there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from auditor.errors import UnsupportedModel
from auditor.experts.onnx_dataflow import BIASED, PREFIX, RAW, Dataflow, key
from auditor.experts.onnx_match import ExpertTensor
from auditor.experts.onnx_routers import OnnxRouter

Array = NDArray[Any]


class GraphEdit:
    """Nodes and tensors put into a graph; each node right behind what it takes."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._flow = Dataflow(graph)
        self._nodes: list[NodeProto] = list(graph.node)
        self._next = 0

    def take_over(self, value: str) -> str:
        """The new name of a value whose own name the nodes added next will make."""
        producer = self._seek(value)
        producer.output[list(producer.output).index(value)] = f"{RAW}{value}"
        return f"{RAW}{value}"

    def divert(self, router: OnnxRouter) -> None:
        """Let the router choose by another value than `choice`, which is to be added next."""
        topk = self._flow.producer(router.indices)
        behind = [] if topk is None else self._flow.behind(topk.input[0], router.choice)
        path = {key(node) for node in behind} | ({key(topk)} if topk is not None else set())
        for node in self._nodes:
            if key(node) in path:
                node.input[:] = [
                    f"{BIASED}{name}" if name == router.choice else name for name in node.input
                ]
        self._seek(router.choice)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node and return the name of what it makes."""
        name = output if output.startswith(PREFIX) else f"{PREFIX}{output}"
        self._nodes.insert(
            self._next, helper.make_node(operator, inputs, [output], name, **attributes)
        )
        self._next += 1
        return output

    def constant(self, name: str, value: Array, element_type: int) -> str:
        """Store a tensor and return its name."""
        dtype = helper.tensor_dtype_to_np_dtype(element_type)
        self._graph.initializer.append(numpy_helper.from_array(value.astype(dtype), name))
        return name

    def same_node(self, first: str, second: str) -> bool:
        """Whether one node makes both values."""
        return self._flow.producer(first) is self._flow.producer(second)

    def stored(self, name: str) -> NDArray[Any]:
        """The numbers of a stored tensor that is taken under a name, before any edit."""
        constant = self._flow.constant(name)
        return self._flow.values(constant.name if constant else name)

    def zero_slices(self, tensor: ExpertTensor, experts: Sequence[int], layer: int) -> None:
        """Zero experts in a stored tensor, or in a copy where other nodes take it as well."""
        stored = next((each for each in self._graph.initializer if each.name == tensor.name), None)
        if stored is None or stored.data_location == TensorProto.EXTERNAL:
            raise UnsupportedModel(
                "the experts' tensor is not an initialiser whose data is in the model",
                place=f"tensor '{tensor.name}'", way_out="open the model with OnnxModel.open",
            )  # fmt: skip
        values = numpy_helper.to_array(stored).copy()
        values[(slice(None),) * tensor.axis + (list(experts),)] = 0
        if len(self._flow.consumers(tensor.name)) == 1:
            stored.CopyFrom(numpy_helper.from_array(values, tensor.name))
            return
        if not tensor.direct:
            raise UnsupportedModel(
                "the experts' tensor is shared with other nodes", place=f"tensor '{tensor.name}'",
                way_out="export the model with optimize=True",
            )  # fmt: skip
        name = f"{PREFIX}layer{layer}/{tensor.name}"
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        taker = next(node for node in self._nodes if tensor.taker in node.output)
        taker.input[0] = name

    def finish(self) -> None:
        """Write the nodes into the graph."""
        nodes = [onnx.NodeProto() for _ in self._nodes]
        for copy, node in zip(nodes, self._nodes, strict=True):
            copy.CopyFrom(node)
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _seek(self, value: str) -> NodeProto:
        """The node that makes a value; nodes are added behind it from now on."""
        for position, node in enumerate(self._nodes):
            if value in node.output:
                self._next = position + 1
                return node
        raise UnsupportedModel(
            f"no node makes '{value}'", way_out="use the routers that were found in this model"
        )
