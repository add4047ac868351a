"""Executing an ONNX graph in torch, operator by operator.

This is the second opinion beside onnxruntime: in float64 it is the reference that
runtimes are compared with and the digests are computed from; in float32 it is a
runtime of its own whose intermediate tensors and gradients are open. Nothing is
fused or reordered.

It lives among the models and not the activations because the functional digest
needs it. Control flow (If, Loop, Scan) and recurrent operators are not expressed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from auditor.errors import UnsupportedModel, UnsupportedOperator
from auditor.models.torch_elementwise import ELEMENTWISE_OPERATORS
from auditor.models.torch_layers import LAYER_OPERATORS
from auditor.models.torch_node import Operator, TorchNode, as_tensor, read_attributes
from auditor.models.torch_shapes import SHAPE_OPERATORS

OPERATORS: Final[dict[str, Operator]] = {
    **ELEMENTWISE_OPERATORS,
    **LAYER_OPERATORS,
    **SHAPE_OPERATORS,
}
SUPPORTED: Final[tuple[str, ...]] = tuple(sorted({*OPERATORS, "Constant"}))
_DOMAINS: Final = frozenset({"", "ai.onnx", "com.microsoft"})
_CONSTANT_KEYS: Final = ("value", "value_float", "value_floats", "value_int", "value_ints")


class TorchGraph:
    """An ONNX graph ready to run in torch.

    Attributes:
        dtype: Floating-point type of every computation, float32 or float64.
        device: Where it runs.
        nodes: The nodes in order, constants left out.
        input_names: Inputs that have to be given.
        output_names: The graph's outputs.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> None:
        """Read the graph.

        Raises:
            UnsupportedOperator: Naming every node that cannot be expressed.
        """
        self.dtype, self.device = dtype, torch.device(device)
        graph = proto.graph
        _refuse_unknown_operators(graph)
        opset = max(
            (o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1
        )
        self.constants: dict[str, Tensor] = {
            tensor.name: as_tensor(numpy_helper.to_array(tensor), dtype, self.device)
            for tensor in graph.initializer
        }
        self.nodes: tuple[TorchNode, ...] = ()
        for node in graph.node:
            read = _read_node(node, opset, dtype, self.device)
            if node.op_type == "Constant":
                self.constants[node.output[0]] = _constant(read)
            else:
                self.nodes += (read,)
        self.input_names = tuple(v.name for v in graph.input if v.name not in self.constants)
        self.output_names = tuple(value.name for value in graph.output)
        self._shapes = {
            value.name: [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]
            for value in graph.input
        }

    def run(
        self, inputs: Mapping[str, Tensor | NDArray[Any]], keep: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """The graph's outputs by name, and the tensors named in `keep`.

        Floating-point inputs are converted to the graph's precision. Gradients flow
        unless the caller turns them off.

        Raises:
            UnsupportedModel: An input is missing, a name in `keep` does not occur, or
                a node fails on these shapes.
        """
        missing = [name for name in self.input_names if name not in inputs]
        if missing:
            raise UnsupportedModel(f"no value for input '{missing[0]}'")
        wanted = {*self.output_names, *keep}
        values = dict(self.constants)
        for name in self.input_names:
            values[name] = as_tensor(inputs[name], self.dtype, self.device)
        uses = Counter(name for node in self.nodes for name in node.inputs if name)
        for node in self.nodes:
            self._run_node(node, values)
            uses.subtract(name for name in node.inputs if name)
            for name in node.inputs:
                if not uses[name] and name not in wanted:
                    values.pop(name, None)  # frees large activations as soon as possible
        absent = sorted(wanted - values.keys())
        if absent:
            raise UnsupportedModel(f"the graph has no tensor '{absent[0]}'")
        return {name: values[name] for name in (*self.output_names, *keep)}

    def run_rows(self, rows: Tensor | NDArray[Any]) -> Tensor:
        """Flat samples in, flat outputs out: [samples, n] to [samples, m], one output.

        Samples go in one batch where the graph treats them one by one, which is tried
        out once; otherwise each is run alone.
        """
        if len(self.input_names) != 1 or len(self.output_names) != 1:
            raise UnsupportedModel(
                f"{len(self.input_names)} inputs and {len(self.output_names)} outputs",
                way_out="flat rows need exactly one of each; use run() with names",
            )
        rows = as_tensor(rows, self.dtype, self.device)
        if self.batches:
            return self._run_batch(rows)
        return torch.cat([self._run_batch(row[None]) for row in rows])

    @cached_property
    def batches(self) -> bool:
        """Whether three different samples in one batch give what each gives alone.

        Tried on random samples, so a graph that mixes samples is found out unless the
        mixing vanishes there.
        """
        shape = self._shapes[self.input_names[0]]
        if not shape or shape[0] not in (1, None):
            return False
        size = int(np.prod([axis or 1 for axis in shape]))
        rows = torch.randn(3, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        rows = rows.to(self.device, self.dtype)
        with torch.no_grad():
            try:
                alone = torch.cat([self._run_batch(row[None]) for row in rows])
                together = self._run_batch(rows)
            except UnsupportedModel:
                return False
        tolerance = 1e-4 if self.dtype == torch.float32 else 1e-9
        return alone.shape == together.shape and bool(
            torch.allclose(alone, together, rtol=tolerance, atol=tolerance, equal_nan=True)
        )

    def _run_batch(self, rows: Tensor) -> Tensor:
        shape = [axis or 1 for axis in self._shapes[self.input_names[0]]]
        outputs = self.run({self.input_names[0]: rows.reshape(len(rows) * shape[0], *shape[1:])})
        return outputs[self.output_names[0]].reshape(len(rows), -1)

    def _run_node(self, node: TorchNode, values: dict[str, Tensor]) -> None:
        arguments = [values[name] if name else None for name in node.inputs]
        try:
            result = OPERATORS[node.op](node, arguments)
        except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
            problem = " ".join(str(error).split())[:200]
            raise UnsupportedModel(
                f"{node.op} fails: {problem}",
                place=f"node '{node.name}'",
                way_out="check the input's shape against the model's",
            ) from error
        produced = [result] if isinstance(result, Tensor) else result
        for name, tensor in zip(node.outputs, produced, strict=False):
            values[name] = tensor


def _refuse_unknown_operators(graph: onnx.GraphProto) -> None:
    unknown = [
        (node.op_type, node.name or (node.output[0] if node.output else ""))
        for node in graph.node
        if node.op_type not in SUPPORTED
        or node.domain not in _DOMAINS
        or (node.op_type == "MaxPool" and len([name for name in node.output if name]) > 1)
        or (node.op_type == "BatchNormalization" and _training_mode(node))
        or not _known_activation(node)
    ]
    if unknown:
        raise UnsupportedOperator(unknown, SUPPORTED)


def _training_mode(node: onnx.NodeProto) -> bool:
    return any(a.name == "training_mode" and a.i for a in node.attribute)


def _known_activation(node: onnx.NodeProto) -> bool:
    """Whether what is fused into a node is expressed too; true where nothing is."""
    names = [a.s.decode(errors="replace") for a in node.attribute if a.name == "activation"]
    return not names or names[0] in ELEMENTWISE_OPERATORS


def _read_node(
    node: onnx.NodeProto, opset: int, dtype: torch.dtype, device: torch.device
) -> TorchNode:
    return TorchNode(
        name=node.name or (node.output[0] if node.output else ""),
        op=node.op_type,
        opset=opset,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=read_attributes(node),
        dtype=dtype,
        device=device,
    )


def _constant(node: TorchNode) -> Tensor:
    for key in _CONSTANT_KEYS:
        if key in node.attributes:
            value = node.attributes[key]
            if key.startswith("value_float"):
                value = np.asarray(value, dtype=np.float32)
            return node.tensor_of(value)
    raise UnsupportedModel("a constant without a numeric value", place=f"node '{node.name}'")
