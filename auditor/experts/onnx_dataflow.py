"""Who makes and who takes each value of an ONNX graph, seen as if no expert had been edited.

Edits of `auditor.experts.onnx_edit` put their nodes and names below `PREFIX`, so that an edited
graph shows the routers of its base, under the same names. It does not look into subgraphs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

PREFIX: Final = "auditor/experts/"
RAW: Final = f"{PREFIX}raw/"
"""Before the name of a value as it was before an edit that took its name over."""
BIASED: Final = f"{PREFIX}biased/"
"""Before the name of a value that is no longer taken where a choice is made."""


@dataclass(frozen=True)
class Constant:
    """A tensor of the model as a node takes it.

    Attributes:
        name: Of the initialiser, or of the value that a Constant node makes.
        shape: As it is taken.
        axes: For each of these axes, the axis of the stored tensor.
        element_type: Of ONNX, as stored.
        direct: Whether nothing stands between the stored tensor and the node.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    element_type: int
    direct: bool = True


class Dataflow:
    """An index of a graph; it holds the graph's own nodes and does not change them.

    Attributes:
        nodes: In topological order, without those of edits.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: tuple[NodeProto, ...] = tuple(_unedited(graph.node))
        self._tensors: dict[str, TensorProto] = {each.name: each for each in graph.initializer}
        self._producers: dict[str, NodeProto] = {}
        self._consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            self._producers.update({name: node for name in node.output if name})
            for name in dict.fromkeys(node.input):
                self._consumers[name].append(node)
            if node.op_type == "Constant" and isinstance(value := attribute(node, "value"),
                                                         TensorProto):  # fmt: skip
                self._tensors[node.output[0]] = value

    def producer(self, value: str) -> NodeProto | None:
        """The node that makes a value; None for inputs and initialisers."""
        return self._producers.get(value)

    def consumers(self, value: str) -> Sequence[NodeProto]:
        """The nodes that take a value, in order."""
        return self._consumers.get(value, ())

    def constant(self, value: str) -> Constant | None:
        """The stored tensor behind a value, also through Identity, Cast and Transpose."""
        if (tensor := self._tensors.get(value)) is not None:
            shape = tuple(tensor.dims)
            return Constant(value, shape, tuple(range(len(shape))), tensor.data_type)
        node = self.producer(value)
        if node is None or node.op_type not in ("Identity", "Cast", "Transpose"):
            return None
        found = self.constant(node.input[0])
        if found is None:
            return None
        order = range(len(found.shape))
        if node.op_type == "Transpose":
            order = attribute(node, "perm") or order[::-1]
        return Constant(
            found.name, tuple(found.shape[axis] for axis in order),
            tuple(found.axes[axis] for axis in order), found.element_type, direct=False,
        )  # fmt: skip

    def integers(self, value: str) -> tuple[int, ...]:
        """The numbers of a small stored tensor, flat; empty where there is none."""
        if (constant := self.constant(value)) is None:
            return ()
        return tuple(int(number) for number in self.values(constant.name).ravel())

    def values(self, name: str) -> NDArray[Any]:
        """The numbers of a stored tensor, as it is stored."""
        return numpy_helper.to_array(self._tensors[name])

    def trace(self, value: str, through: frozenset[str]) -> tuple[NodeProto | None, str]:
        """The first node behind a value that is not one of these operators, and its output.

        A Concat of one tensor, which exporters leave behind, is passed as well.
        """
        while (node := self.producer(value)) is not None and (
            node.op_type in through or (node.op_type == "Concat" and len(node.input) == 1)
        ):
            value = node.input[0]
        return node, value

    def behind(self, value: str, stop: str) -> list[NodeProto]:
        """The nodes a value depends on, as far back as another value, each once."""
        found: dict[str, NodeProto] = {}
        pending = [value]
        while pending:
            name = pending.pop()
            node = None if name == stop else self.producer(name)
            if node is not None and key(node) not in found:
                found[key(node)] = node
                pending += node.input
        return list(found.values())


def key(node: NodeProto) -> str:
    """What tells a node from others: its first output. Names may be missing, or occur twice."""
    return next((name for name in node.output if name), "")


def place(node: NodeProto) -> str:
    """What a node is called in messages."""
    return node.name or f"{node.op_type} of {key(node)}"


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute of a node."""
    for each in node.attribute:
        if each.name == name:
            return onnx.helper.get_attribute_value(each)
    return default


def _unedited(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """The nodes of the base model: those of edits left out, values under their old names."""
    for node in nodes:
        if node.name.startswith(PREFIX):
            continue
        if any(name.startswith(PREFIX) for name in (*node.input, *node.output)):
            restored = NodeProto()
            restored.CopyFrom(node)
            restored.input[:] = [_old_name(name) for name in node.input]
            restored.output[:] = [_old_name(name) for name in node.output]
            yield restored
        else:
            yield node


def _old_name(name: str) -> str:
    return name.removeprefix(RAW).removeprefix(BIASED)
