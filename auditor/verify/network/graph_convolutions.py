"""Convolution and batch normalisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import flint
import numpy as np

from auditor.verify.network.chain import Float64
from auditor.verify.network.graph_tensor import GraphTensor
from auditor.verify.network.linear_map import ConvolutionMap, GatherMap
from auditor.verify.network.operators import NodeView, Value, float64_of
from auditor.verify.network.windows import windows_of

_PRECISION = 256


def _convolution(view: NodeView) -> Value:
    value, kernel = view.argument(0), float64_of(view, view.constant(1))
    if not isinstance(value, GraphTensor) or len(value.shape) != kernel.ndim or kernel.ndim < 3:
        raise view.refusal("expected a tensor and a kernel of the same rank")
    windows = windows_of(view, value.shape, kernel.shape[2:])
    groups = int(view.attributes.get("group", 1))
    channels = value.shape[1]
    if groups < 1 or kernel.shape[1] * groups != channels or kernel.shape[0] % groups:
        raise view.refusal(
            f"{channels} channels in {groups} groups meet a kernel {list(kernel.shape)}"
        )
    sizes = value.shape[2:] if windows.spatial == 2 else (1, *value.shape[2:])
    linear = ConvolutionMap(
        kernel.reshape(*kernel.shape[:2], *windows.extent),
        (channels, sizes[0], sizes[1]),
        windows.strides,
        windows.pads,
        windows.dilations,
        groups,
    )
    outputs, height, width = linear.output_shape
    if min(height, width) < 1:
        raise view.refusal("the kernel is larger than the padded tensor")
    bias = None
    if view.optional(2) is not None:
        given = float64_of(view, view.constant(2))
        if given.shape != (outputs,):
            raise view.refusal(f"bias of shape {list(given.shape)}")
        bias = np.repeat(given, height * width)
    shape = (1, outputs, height, width) if windows.spatial == 2 else (1, outputs, width)
    return value.mapped(linear, bias, shape, view.name)


def _batch_normalization(view: NodeView) -> Value:
    """An affine map of its own: each factor and offset is within one rounding of exact."""
    value = view.argument(0)
    if not isinstance(value, GraphTensor) or len(value.shape) < 2:
        raise view.refusal("expected a tensor with channels")
    if view.attributes.get("training_mode", 0) or view.attributes.get("is_test", 1) != 1:
        raise view.refusal("training mode")
    scale, offset, mean, variance = (
        float64_of(view, view.constant(index)).ravel() for index in range(1, 5)
    )
    if {len(scale), len(offset), len(mean), len(variance)} != {value.shape[1]}:
        raise view.refusal(f"parameters do not fit {value.shape[1]} channels")
    epsilon = float(np.float32(view.attributes.get("epsilon", 1e-5)))
    if (variance + epsilon <= 0).any():
        raise view.refusal("a variance that is not positive")
    factors, offsets = _affine_of(scale, offset, mean, variance, epsilon)
    each = value.shape[0], value.shape[1], value.size // (value.shape[0] * value.shape[1])
    wide_factors, wide_offsets = (
        np.broadcast_to(numbers[None, :, None], each).ravel() for numbers in (factors, offsets)
    )
    value.note_rounding(exact=False)
    linear = GatherMap(np.arange(value.size), value.size, wide_factors)
    return value.mapped(linear, wide_offsets, value.shape, view.name)


def _affine_of(
    scale: Float64, offset: Float64, mean: Float64, variance: Float64, epsilon: float
) -> tuple[Float64, Float64]:
    """`s / sqrt(v + e)` and `o - m s / sqrt(v + e)`, each rounded once from 256 bits."""
    factors, offsets = np.empty(len(scale)), np.empty(len(scale))
    precision, flint.ctx.prec = flint.ctx.prec, _PRECISION
    try:
        for index in range(len(scale)):
            root = (flint.arb(float(variance[index])) + flint.arb(epsilon)).sqrt()
            factor = flint.arb(float(scale[index])) / root
            factors[index] = float(factor)
            offsets[index] = float(
                flint.arb(float(offset[index])) - flint.arb(float(mean[index])) * factor
            )
    finally:
        flint.ctx.prec = precision
    return factors, offsets


CONVOLUTIONS: Mapping[str, Callable[[NodeView], Value]] = {
    "BatchNormalization": _batch_normalization,
    "Conv": _convolution,
}
