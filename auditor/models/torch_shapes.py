"""ONNX operators that move, cut, join and reduce tensors, in torch.

One function per operator, each following the operator's page in the ONNX
specification, older operator-set versions included where real files use them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import TensorProto
from torch import Tensor

from auditor.models.torch_node import (
    Operator,
    TorchNode,
    Values,
    integers_of,
    optional,
    require,
)

_INTEGER_TYPES: Final[dict[int, torch.dtype]] = {
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}


def _cast(node: TorchNode, values: Values) -> Tensor:
    # Every floating-point type is computed in the graph's own precision.
    return require(values, 0).to(_INTEGER_TYPES.get(node.integer("to", 1), node.dtype))


def _axes(node: TorchNode, values: Values, index: int = 1) -> list[int] | None:
    """Axes from the second input (newer operator sets) or the attribute (older ones)."""
    given = integers_of(optional(values, index))
    return given if given is not None else node.integers("axes")


def _flatten(node: TorchNode, values: Values) -> Tensor:
    data, axis = require(values, 0), node.integer("axis", 1)
    axis += data.ndim if axis < 0 else 0
    rows = 1
    for size in data.shape[:axis]:
        rows *= size
    return data.reshape(rows, -1)


def _reshape(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    shape = integers_of(optional(values, 1)) or node.integers("shape") or []
    if not node.integer("allowzero", 0):
        shape = [data.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return data.reshape(shape)


def _transpose(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    return data.permute(node.integers("perm") or list(reversed(range(data.ndim))))


def _squeeze(node: TorchNode, values: Values) -> Tensor:
    data, axes = require(values, 0), _axes(node, values)
    if axes is None:
        return data.squeeze()
    return data.squeeze(tuple(axes))


def _unsqueeze(node: TorchNode, values: Values) -> Tensor:
    data, axes = require(values, 0), _axes(node, values) or []
    rank = data.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        data = data.unsqueeze(axis)
    return data


def _concat(node: TorchNode, values: Values) -> Tensor:
    return torch.cat([require(values, i) for i in range(len(values))], node.integer("axis", 0))


def _split(node: TorchNode, values: Values) -> Sequence[Tensor]:
    data, axis = require(values, 0), node.integer("axis", 0)
    sizes = integers_of(optional(values, 1)) or node.integers("split")
    if sizes is None:
        parts = node.integer("num_outputs", len(node.outputs))
        size, total = -(-data.shape[axis] // parts), data.shape[axis]
        sizes = [min(size, total - start) for start in range(0, total, size)]
    starts = accumulate(sizes, initial=0)
    return [data.narrow(axis, start, size) for start, size in zip(starts, sizes, strict=False)]


def _slice(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    starts = integers_of(optional(values, 1)) or node.integers("starts") or []
    ends = integers_of(optional(values, 2)) or node.integers("ends") or []
    axes = _axes(node, values, 3) or list(range(len(starts)))
    steps = integers_of(optional(values, 4)) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Python's own slice resolves negative and overlong positions as ONNX does.
        positions = range(*slice(start, end, step).indices(data.shape[axis]))
        data = data.index_select(axis, torch.tensor(list(positions), device=data.device).long())
    return data


def _gather(node: TorchNode, values: Values) -> Tensor:
    data, indices, axis = require(values, 0), require(values, 1), node.integer("axis", 0)
    axis %= data.ndim
    indices = indices.long()
    indices = torch.where(indices < 0, indices + data.shape[axis], indices)
    picked = data.index_select(axis, indices.reshape(-1))
    return picked.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def _shape(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    start, end = node.integer("start", 0), node.integer("end", data.ndim)
    return torch.tensor(list(data.shape)[start:end], device=data.device, dtype=torch.int64)


def _constant_of_shape(node: TorchNode, values: Values) -> Tensor:
    value = node.tensor_of(node.attributes["value"]) if "value" in node.attributes else None
    shape = integers_of(require(values, 0)) or []
    if value is None:
        return torch.zeros(shape, dtype=node.dtype, device=node.device)
    return value.reshape(-1)[0].expand(shape)


def _expand(node: TorchNode, values: Values) -> Tensor:
    data, shape = require(values, 0), integers_of(require(values, 1)) or []
    return data.expand(np.broadcast_shapes(tuple(data.shape), tuple(shape)))


def _pad(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    pads = integers_of(optional(values, 1)) or node.integers("pads") or []
    axes = integers_of(optional(values, 3)) or list(range(data.ndim))
    value = optional(values, 2)
    fill = node.number("value", 0.0) if value is None else float(value)
    mode = node.text("mode", "constant")
    flat = [0, 0] * data.ndim
    for position, axis in enumerate(axis % data.ndim for axis in axes):
        last_first = 2 * (data.ndim - 1 - axis)
        flat[last_first] = pads[position]
        flat[last_first + 1] = pads[position + len(axes)]
    if mode == "constant":
        return F.pad(data, flat, value=fill)
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return F.pad(data, flat, mode={"edge": "replicate"}.get(mode, mode))


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def reduce(node: TorchNode, values: Values) -> Tensor:
        data, axes = require(values, 0), _axes(node, values)
        if not axes:
            if node.integer("noop_with_empty_axes", 0):
                return data
            axes = list(range(data.ndim))
        return function(data, axes, bool(node.integer("keepdims", 1)))

    return reduce


def _argmax(node: TorchNode, values: Values) -> Tensor:
    data, axis = require(values, 0), node.integer("axis", 0)
    return data.argmax(axis, keepdim=bool(node.integer("keepdims", 1)))


SHAPE_OPERATORS: Final[dict[str, Operator]] = {
    "ArgMax": _argmax,
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "ReduceMax": _reduce(lambda data, axes, keep: data.amax(axes, keep)),
    "ReduceMean": _reduce(lambda data, axes, keep: data.mean(axes, keep)),
    "ReduceMin": _reduce(lambda data, axes, keep: data.amin(axes, keep)),
    "ReduceSum": _reduce(lambda data, axes, keep: data.sum(axes, keep)),
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
