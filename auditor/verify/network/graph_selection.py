"""Operators that only move elements: concatenate, split, slice, gather, pad, expand.

Each is computed once on an array of places; the result says which element goes where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from auditor.verify.network.chain import Float64
from auditor.verify.network.graph_tensor import GraphTensor, combined
from auditor.verify.network.linear_map import GatherMap
from auditor.verify.network.operators import OPERATORS, NodeView, Value, float64_of

Places = NDArray[np.int64]


def places_of(value: GraphTensor) -> Places:
    """The flat place of each element, in the tensor's shape."""
    return np.arange(value.size).reshape(value.shape)


def _moved(view: NodeView, places: Places) -> Value:
    value = view.argument(0)
    if not isinstance(value, GraphTensor):
        return np.asarray(value.ravel()[places]) if isinstance(value, np.ndarray) else value
    return value.gathered(places, places.shape, view.name)


def _source(view: NodeView) -> Places:
    value = view.argument(0)
    return np.arange(value.size).reshape(value.shape)


def _concat(view: NodeView) -> Value:
    parts = [view.argument(index) for index in range(len(view.arguments))]
    if not any(isinstance(part, GraphTensor) for part in parts):
        return OPERATORS["Concat"](view)
    axis = int(view.attributes.get("axis", 0))
    owners = [np.full(part.shape, number) for number, part in enumerate(parts)]
    try:
        owner = np.concatenate(owners, axis=axis)
    except ValueError:
        raise view.refusal(f"shapes {[list(part.shape) for part in parts]}") from None
    places = np.concatenate([np.arange(part.size).reshape(part.shape) for part in parts], axis=axis)
    bias, images = np.zeros(owner.size), []
    for number, part in enumerate(parts):
        mine = (owner == number).ravel()
        if isinstance(part, GraphTensor):
            index = np.where(mine, places.ravel(), -1)
            images.append((part, GatherMap(index, part.size)))
        else:
            bias[mine] = float64_of(view, view.constant(number)).ravel()
    return combined(images, bias, owner.shape, view.name)


def _split(view: NodeView) -> tuple[Value, ...]:
    places = _source(view)
    axis = int(view.attributes.get("axis", 0)) % max(1, places.ndim)
    sizes = view.integers(1, "split")
    if sizes is None:
        count = int(view.attributes.get("num_outputs", len(view.node.output)))
        each = -(-places.shape[axis] // count)
        sizes = [
            min(each, places.shape[axis] - start) for start in range(0, places.shape[axis], each)
        ]
    if sum(sizes) != places.shape[axis] or len(sizes) != len(view.node.output):
        raise view.refusal(f"sizes {sizes} of {places.shape[axis]} elements")
    ends = np.cumsum(sizes)[:-1].tolist()
    return tuple(_moved(view, part) for part in np.split(places, ends, axis=axis))


def _slice(view: NodeView) -> Value:
    places = _source(view)
    starts, ends = view.integers(1, "starts"), view.integers(2, "ends")
    if starts is None or ends is None:
        raise view.refusal("no starts or no ends")
    axes = view.integers(3, "axes") or list(range(len(starts)))
    steps = view.integers(4, "steps") or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise view.refusal("starts, ends, axes and steps differ in number")
    cut: list[slice] = [slice(None)] * places.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = places.shape[axis]
        # ONNX clamps ends; with a negative step an end before 0 means "to the start".
        stop = end + size if end < 0 else end
        first = None if step < 0 else 0
        cut[axis % places.ndim] = slice(start, first if stop < 0 else stop, step)
    return _moved(view, places[tuple(cut)])


def _gather(view: NodeView) -> Value:
    value = view.argument(0)
    if not isinstance(value, GraphTensor):
        return OPERATORS["Gather"](view)
    indices, axis = view.constant(1), int(view.attributes.get("axis", 0))
    size = value.shape[axis]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        raise view.refusal("an index outside of the tensor")
    return _moved(view, np.take(places_of(value), indices.astype(np.int64), axis=axis))


def _pad(view: NodeView) -> Value:
    value = view.argument(0)
    pads = view.integers(1, "pads")
    if not isinstance(value, GraphTensor) or pads is None or min(pads, default=0) < 0:
        raise view.refusal("expected a tensor and pads that are not negative")
    rank = len(value.shape)
    axes = view.integers(3, "axes") or list(range(rank))
    if len(pads) != 2 * len(axes):
        raise view.refusal(f"{len(pads)} pads for {len(axes)} axes")
    widths = [(0, 0)] * rank
    for number, axis in enumerate(axes):
        widths[axis % rank] = (pads[number], pads[number + len(axes)])
    mode = view.attributes.get("mode", b"constant").decode()
    if mode == "reflect":
        return _moved(view, np.pad(places_of(value), widths, mode="reflect"))
    if mode == "edge":
        return _moved(view, np.pad(places_of(value), widths, mode="edge"))
    if mode != "constant":
        raise view.refusal(f"mode {mode}")
    places = np.pad(places_of(value), widths, constant_values=-1)
    bias: Float64 = np.where(places.ravel() < 0, _pad_value(view), 0.0)
    linear = GatherMap(places.ravel(), value.size)
    return value.mapped(linear, bias, places.shape, view.name)


def _pad_value(view: NodeView) -> float:
    if view.optional(2) is None:
        return float(np.float32(view.attributes.get("value", 0.0)))
    return float(float64_of(view, view.constant(2)).ravel()[0])


def _expand(view: NodeView) -> Value:
    places = _source(view)
    wanted = view.integers(1, "shape")
    if wanted is None:
        raise view.refusal("no target shape")
    try:
        shape = np.broadcast_shapes(places.shape, tuple(wanted))
    except ValueError:
        raise view.refusal(f"shape {list(places.shape)} cannot become {wanted}") from None
    return _moved(view, np.broadcast_to(places, shape))


def _transpose(view: NodeView) -> Value:
    places = _source(view)
    order: Sequence[int] = view.attributes.get("perm", range(places.ndim - 1, -1, -1))
    if sorted(order) != list(range(places.ndim)):
        raise view.refusal(f"permutation {list(order)} of {places.ndim} dimensions")
    return _moved(view, places.transpose(order))


SELECTION: Mapping[str, Callable[[NodeView], Value | tuple[Value, ...]]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
