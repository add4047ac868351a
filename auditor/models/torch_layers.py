"""ONNX operators of neural layers in torch: products, convolutions, pools, norms.

Windows follow the ONNX pages of Conv, MaxPool and AveragePool. All padding is
written out first, because torch knows neither one-sided padding nor `auto_pad`.
The fused operators are those that onnxruntime's optimiser writes when it saves a
model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from auditor.models.torch_elementwise import ELEMENTWISE_OPERATORS
from auditor.models.torch_node import Operator, TorchNode, Values, optional, require

# Names of the entries of FusedConv's `activation_params`.
_FUSED_PARAMETERS: Final = {
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
}


class Window(NamedTuple):
    """A sliding window over the spatial axes, one entry per axis."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]

    def flat_padding(self) -> list[int]:
        """Padding as torch wants it: last axis first, before and after in pairs."""
        pairs = zip(reversed(self.before), reversed(self.after), strict=True)
        return [size for pair in pairs for size in pair]


def _window(node: TorchNode, sizes: list[int], kernel: list[int]) -> Window:
    axes = len(kernel)
    strides = node.integers("strides") or [1] * axes
    dilations = node.integers("dilations") or [1] * axes
    mode = node.text("auto_pad", "NOTSET")
    pads = node.integers("pads") or [0] * (2 * axes)
    before, after = pads[:axes], pads[axes:]
    if mode == "VALID":
        before, after = [0] * axes, [0] * axes
    elif mode.startswith("SAME"):
        spans = [
            dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)
        ]
        total = [
            max(0, (-(-size // stride) - 1) * stride + span - size)
            for size, stride, span in zip(sizes, strides, spans, strict=True)
        ]
        small, large = [size // 2 for size in total], [size - size // 2 for size in total]
        before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    return Window(kernel, strides, dilations, before, after)


def _conv(node: TorchNode, values: Values) -> Tensor:
    data, weight, bias = require(values, 0), require(values, 1), optional(values, 2)
    window = _window(node, list(data.shape[2:]), list(weight.shape[2:]))
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(window.kernel)]
    padded = F.pad(data, window.flat_padding())
    result: Tensor = convolve(
        padded,
        weight,
        bias,
        stride=window.strides,
        dilation=window.dilations,
        groups=node.integer("group", 1),
    )
    return result


def _ceil_extra(node: TorchNode, window: Window, sizes: list[int]) -> list[int]:
    """Further cells after the padding that `ceil_mode` lets the last window reach."""
    if not node.integer("ceil_mode", 0):
        return [0] * len(sizes)
    extra = []
    for axis, size in enumerate(sizes):
        span = window.dilations[axis] * (window.kernel[axis] - 1) + 1
        padded = size + window.before[axis] + window.after[axis]
        stride = window.strides[axis]
        steps = -(-(padded - span) // stride)
        # A window that would start in the padding after the data is left out.
        steps -= steps * stride >= size + window.before[axis]
        extra.append(max(0, steps * stride + span - padded))
    return extra


def _max_pool(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    window = _window(node, list(data.shape[2:]), node.integers("kernel_shape") or [])
    extra = _ceil_extra(node, window, list(data.shape[2:]))
    wider = window._replace(after=[a + e for a, e in zip(window.after, extra, strict=True)])
    padded = F.pad(data, wider.flat_padding(), value=float("-inf"))
    pool: Callable[..., Tensor] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[
        len(window.kernel)
    ]
    return pool(padded, window.kernel, window.strides, dilation=window.dilations)


def _average_pool(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    sizes = list(data.shape[2:])
    window = _window(node, sizes, node.integers("kernel_shape") or [])
    extra = [0, *_ceil_extra(node, window, sizes)][-len(sizes) :]
    counted = torch.ones_like(data[:1, :1])
    include = bool(node.integer("count_include_pad", 0))
    padding = window.flat_padding()
    counted = F.pad(counted, padding, value=1.0 if include else 0.0)
    beyond = Window([], [], [], [0] * len(sizes), extra).flat_padding()
    padded, counted = F.pad(F.pad(data, padding), beyond), F.pad(counted, beyond)
    return _window_sum(padded, window) / _window_sum(counted, window)


def _window_sum(data: Tensor, window: Window) -> Tensor:
    """Sums over each window: a convolution of every channel with ones."""
    channels, axes = data.shape[1], len(window.kernel)
    ones = torch.ones(channels, 1, *window.kernel, dtype=data.dtype, device=data.device)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[axes]
    result: Tensor = convolve(
        data, ones, stride=window.strides, dilation=window.dilations, groups=channels
    )
    return result


def _global_average_pool(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    return data.mean(list(range(2, data.ndim)), keepdim=True)


def _global_max_pool(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    return data.amax(list(range(2, data.ndim)), keepdim=True)


def _gemm(node: TorchNode, values: Values) -> Tensor:
    left, right, bias = require(values, 0), require(values, 1), optional(values, 2)
    left = left.T if node.integer("transA", 0) else left
    right = right.T if node.integer("transB", 0) else right
    product = node.number("alpha", 1.0) * (left @ right)
    return product if bias is None else product + node.number("beta", 1.0) * bias


def _fused_matmul(node: TorchNode, values: Values) -> Tensor:
    left, right = require(values, 0), require(values, 1)
    left = left.mT if node.integer("transA", 0) else left
    right = right.mT if node.integer("transB", 0) else right
    return node.number("alpha", 1.0) * (left @ right)


def _batch_normalization(node: TorchNode, values: Values) -> Tensor:
    data = require(values, 0)
    shape = [1, -1] + [1] * (data.ndim - 2)
    scale, bias, mean, variance = (require(values, i).reshape(shape) for i in range(1, 5))
    return (data - mean) / torch.sqrt(variance + node.number("epsilon", 1e-5)) * scale + bias


def _layer_normalization(node: TorchNode, values: Values) -> Tensor:
    data, scale, bias = require(values, 0), require(values, 1), optional(values, 2)
    axis = node.integer("axis", -1) % data.ndim
    shape = list(data.shape[axis:])
    epsilon = node.number("epsilon", 1e-5)
    result = F.layer_norm(data, shape, eps=epsilon) * scale
    return result if bias is None else result + bias


def _activate(node: TorchNode, data: Tensor) -> Tensor | Sequence[Tensor]:
    """The activation that a fused node names, with its parameters.

    FusedGemm keeps them as `activation_<name>`, FusedConv as a list.
    """
    kind = node.text("activation", "")
    if not kind:
        return data
    values = node.attributes.get("activation_params") or ()
    parameters: dict[str, Any] = dict(zip(_FUSED_PARAMETERS.get(kind, ()), values, strict=False))
    for name, value in node.attributes.items():
        if name.startswith("activation_") and name != "activation_params":
            parameters[name.removeprefix("activation_")] = value
    return ELEMENTWISE_OPERATORS[kind](replace(node, op=kind, attributes=parameters), [data])


def _activated(layer: Callable[[TorchNode, Values], Tensor]) -> Operator:
    """A fused layer followed by the activation its attribute names."""

    def run(node: TorchNode, values: Values) -> Tensor | Sequence[Tensor]:
        return _activate(node, layer(node, values))

    return run


def _fused_conv(node: TorchNode, values: Values) -> Tensor:
    result, added = _conv(node, values[:3]), optional(values, 3)
    return result if added is None else result + added


LAYER_OPERATORS: Final[dict[str, Operator]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "FusedConv": _activated(_fused_conv),
    "FusedGemm": _activated(_gemm),
    "FusedMatMul": _fused_matmul,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "LayerNormalization": _layer_normalization,
    "MatMul": lambda node, values: require(values, 0) @ require(values, 1),
    "MaxPool": _max_pool,
}
