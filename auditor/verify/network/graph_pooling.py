"""Pooling and reductions: sums over windows or axes, and maxima as ReLUs of differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from auditor.verify.network.graph_tensor import GraphTensor
from auditor.verify.network.linear_map import BlockSumMap, ConvolutionMap
from auditor.verify.network.operators import NodeView, Value
from auditor.verify.network.windows import Windows, windows_of

MAX_WINDOW = 1024


def _tensor(view: NodeView) -> GraphTensor:
    value = view.argument(0)
    if not isinstance(value, GraphTensor):
        raise view.refusal("a constant argument; fold constants on export")
    return value


def _pool_windows(view: NodeView, value: GraphTensor) -> tuple[Windows, tuple[int, int]]:
    extent = [int(size) for size in view.attributes.get("kernel_shape", ())]
    windows = windows_of(view, value.shape, extent)
    if windows.extent[0] * windows.extent[1] > MAX_WINDOW:
        raise view.refusal(f"a window {extent}")
    sizes = value.shape[2:] if windows.spatial == 2 else (1, *value.shape[2:])
    return windows, (sizes[0], sizes[1])


def _max_pool(view: NodeView) -> Value:
    """Maxima pair by pair, `max(a, b) = b + relu(a - b)`; absent places repeat others."""
    value = _tensor(view)
    if len(view.node.output) > 1 and view.node.output[1]:
        raise view.refusal("positions as a second output")
    windows, sizes = _pool_windows(view, value)
    ceil = bool(view.attributes.get("ceil_mode", 0))
    places = _window_places(view, windows, sizes, windows.counts(sizes, ceil=ceil))
    channels = value.shape[1]
    area = sizes[0] * sizes[1]
    base = (np.arange(channels) * area)[:, None, None]
    spatial = places.shape[1:] if windows.spatial == 2 else places.shape[2:]
    shape = (1, channels, *spatial)
    tensors = [value.gathered(base + place[None], shape, view.name) for place in places]
    while len(tensors) > 1:
        paired = [
            first.maximum(second, view.name)
            for first, second in zip(tensors[::2], tensors[1::2], strict=False)
        ]
        tensors = paired + tensors[len(paired) * 2 :]
    return tensors[0]


def _window_places(
    view: NodeView, windows: Windows, sizes: tuple[int, int], counts: tuple[int, int]
) -> NDArray[np.int64]:
    """Flat place of each element of each window, [elements, rows, columns].

    A place in the padding is replaced by another place of the same window.
    """
    if min(counts) < 1:
        raise view.refusal("the window is larger than the padded tensor")
    axes = []
    for axis in range(2):
        start = np.arange(counts[axis]) * windows.strides[axis] - windows.pads[axis]
        place = start[None, :] + np.arange(windows.extent[axis])[:, None] * windows.dilations[axis]
        inside = (place >= 0) & (place < sizes[axis])
        if not inside.any(axis=0).all():
            raise view.refusal("a window that lies in the padding alone")
        some = np.take_along_axis(place, inside.argmax(axis=0)[None, :], axis=0)
        axes.append(np.where(inside, place, some))
    rows, columns = axes
    places: NDArray[np.int64] = (
        rows[:, None, :, None] * sizes[1] + columns[None, :, None, :]
    ).reshape(-1, *counts)
    return places


def _average_pool(view: NodeView) -> Value:
    value = _tensor(view)
    windows, sizes = _pool_windows(view, value)
    if view.attributes.get("ceil_mode", 0) and windows.counts(sizes) != windows.counts(
        sizes, ceil=True
    ):
        raise view.refusal("ceil_mode with a window that reaches past the end")
    channels = value.shape[1]
    sums = ConvolutionMap(
        np.ones((channels, 1, *windows.extent)),
        (channels, *sizes),
        windows.strides,
        windows.pads,
        windows.dilations,
        channels,
    )
    outputs, height, width = sums.output_shape
    if min(height, width) < 1:
        raise view.refusal("the window is larger than the padded tensor")
    shape = (1, outputs, height, width) if windows.spatial == 2 else (1, outputs, width)
    counts = np.full((height, width), float(np.prod(windows.extent)))
    if not view.attributes.get("count_include_pad", 0):
        counts = _counts_inside(windows, sizes, (height, width))
    total = value.mapped(sums, None, shape, view.name)
    wide = np.broadcast_to(counts, (channels, height, width))
    return total.divided(wide.ravel(), view.name)


def _counts_inside(
    windows: Windows, sizes: tuple[int, int], counts: tuple[int, int]
) -> NDArray[np.float64]:
    """How many places of each window are not padding, [rows, columns]."""
    axes = []
    for axis in range(2):
        start = np.arange(counts[axis]) * windows.strides[axis] - windows.pads[axis]
        place = start[None, :] + np.arange(windows.extent[axis])[:, None] * windows.dilations[axis]
        axes.append(((place >= 0) & (place < sizes[axis])).sum(axis=0))
    inside: NDArray[np.float64] = np.outer(*axes).astype(np.float64)
    return inside


def _global_average_pool(view: NodeView) -> Value:
    value = _tensor(view)
    return _reduced(value, tuple(range(2, len(value.shape))), view, mean=True, keep=True)


def _global_max_pool(view: NodeView) -> Value:
    value = _tensor(view)
    channels, area = value.shape[1], value.size // value.shape[1]
    if value.shape[0] != 1 or area > MAX_WINDOW:
        raise view.refusal(f"a tensor of shape {list(value.shape)}")
    shape = (1, channels, *([1] * (len(value.shape) - 2)))
    starts = np.arange(channels) * area
    tensors = [value.gathered(starts + place, shape, view.name) for place in range(area)]
    while len(tensors) > 1:
        paired = [
            first.maximum(second, view.name)
            for first, second in zip(tensors[::2], tensors[1::2], strict=False)
        ]
        tensors = paired + tensors[len(paired) * 2 :]
    return tensors[0]


def _reduce(mean: bool) -> Callable[[NodeView], Value]:
    def operator(view: NodeView) -> Value:
        value = _tensor(view)
        rank = len(value.shape)
        axes = view.integers(1, "axes")
        if axes is None or not axes:
            if view.attributes.get("noop_with_empty_axes", 0):
                return value
            axes = list(range(rank))
        chosen = tuple(sorted({axis % rank for axis in axes}))
        keep = bool(view.attributes.get("keepdims", 1))
        return _reduced(value, chosen, view, mean=mean, keep=keep)

    return operator


def _reduced(
    value: GraphTensor, axes: tuple[int, ...], view: NodeView, *, mean: bool, keep: bool
) -> GraphTensor:
    """Sum or mean over axes."""
    kept = [axis for axis in range(len(value.shape)) if axis not in axes]
    places = np.arange(value.size).reshape(value.shape).transpose(*kept, *axes)
    count = int(np.prod([value.shape[axis] for axis in axes], dtype=np.int64))
    if keep:
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    else:
        shape = tuple(value.shape[axis] for axis in kept)
    turned = value.gathered(places, places.shape, view.name)
    total = turned.mapped(BlockSumMap(value.size // count, count), None, shape, view.name)
    return total.divided(np.full(total.size, float(count)), view.name) if mean else total


POOLING: Mapping[str, Callable[[NodeView], Value]] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "ReduceMean": _reduce(mean=True),
    "ReduceSum": _reduce(mean=False),
}
