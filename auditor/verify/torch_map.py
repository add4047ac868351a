"""Linear maps as torch operations: forward, transposed, and with absolute values.

Everything is float64. Sums may be taken in any order; each product is formed directly
(no Winograd or Fourier forms), which the error terms rely on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, singledispatch
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from auditor.verify.network.chain import Float64
from auditor.verify.network.graph import INPUT, GraphLayer, GraphNetwork
from auditor.verify.network.linear_map import (
    BlockSumMap,
    ConvolutionMap,
    DenseMap,
    GatherMap,
    LinearMap,
)
from auditor.verify.smooth_relaxation import curve_direction, curve_value


class TorchMap(Protocol):
    """A linear map on the last axis of tensors."""

    def apply(self, values: Tensor) -> Tensor:
        """Image of vectors, [..., inputs] to [..., outputs]."""
        ...

    def pull_back(self, forms: Tensor) -> Tensor:
        """Coefficients over outputs as coefficients over inputs, [..., outputs] to inputs."""
        ...

    def absolute(self) -> TorchMap:
        """The map with the absolute values of its entries."""
        ...


@dataclass(frozen=True)
class TorchDense:
    """A matrix [outputs, inputs], applied to each of `blocks` consecutive blocks."""

    weight: Tensor
    blocks: int = 1

    def apply(self, values: Tensor) -> Tensor:
        """See `TorchMap`."""
        return self._each(values, self.weight.T)

    def pull_back(self, forms: Tensor) -> Tensor:
        """See `TorchMap`."""
        return self._each(forms, self.weight)

    def absolute(self) -> TorchDense:
        """See `TorchMap`."""
        return TorchDense(self.weight.abs(), self.blocks)

    def _each(self, values: Tensor, matrix: Tensor) -> Tensor:
        if self.blocks == 1:
            return values @ matrix
        parts = values.reshape(*values.shape[:-1], self.blocks, matrix.shape[0])
        return (parts @ matrix).flatten(-2)


@dataclass(frozen=True)
class TorchIdentity:
    """The map that changes nothing."""

    def apply(self, values: Tensor) -> Tensor:
        """See `TorchMap`."""
        return values

    def pull_back(self, forms: Tensor) -> Tensor:
        """See `TorchMap`."""
        return forms

    def absolute(self) -> TorchIdentity:
        """See `TorchMap`."""
        return self


@dataclass(frozen=True)
class TorchGather:
    """Each output one input times a factor; `factor` is zero where nothing is read.

    Attributes:
        index: [outputs], each in range.
        factor: [outputs].
        num_inputs: Size of the input.
        inverse: The output that reads each input, or None where several may.
        inverse_factor: Its factor, zero where no output reads the input.
    """

    index: Tensor
    factor: Tensor
    num_inputs: int
    inverse: Tensor | None
    inverse_factor: Tensor

    def apply(self, values: Tensor) -> Tensor:
        """See `TorchMap`."""
        return values[..., self.index] * self.factor

    def pull_back(self, forms: Tensor) -> Tensor:
        """See `TorchMap`."""
        if self.inverse is not None:
            return forms[..., self.inverse] * self.inverse_factor
        sums = forms.new_zeros((*forms.shape[:-1], self.num_inputs))
        return sums.index_add_(-1, self.index, forms * self.factor)

    def absolute(self) -> TorchGather:
        """See `TorchMap`."""
        return TorchGather(
            self.index,
            self.factor.abs(),
            self.num_inputs,
            self.inverse,
            self.inverse_factor.abs(),
        )


@dataclass(frozen=True)
class TorchBlockSum:
    """Each output the sum of `size` consecutive inputs."""

    size: int

    def apply(self, values: Tensor) -> Tensor:
        """See `TorchMap`."""
        return values.reshape(*values.shape[:-1], -1, self.size).sum(dim=-1)

    def pull_back(self, forms: Tensor) -> Tensor:
        """See `TorchMap`."""
        return forms.repeat_interleave(self.size, dim=-1)

    def absolute(self) -> TorchBlockSum:
        """See `TorchMap`."""
        return self


@dataclass(frozen=True)
class TorchConvolution:
    """A convolution with a kernel; see `ConvolutionMap`."""

    kernel: Tensor
    geometry: ConvolutionMap

    def apply(self, values: Tensor) -> Tensor:
        """See `TorchMap`."""
        geometry = self.geometry
        images = values.reshape(-1, *geometry.input_shape)
        top, left, bottom, right = geometry.pads
        if any(geometry.pads):
            images = functional.pad(images, (left, right, top, bottom))
        # cuDNN may choose forms whose rounding the error terms do not describe.
        with torch.backends.cudnn.flags(enabled=False):
            result = functional.conv2d(
                images,
                self.kernel,
                stride=geometry.strides,
                dilation=geometry.dilations,
                groups=geometry.groups,
            )
        return result.reshape(*values.shape[:-1], geometry.num_outputs)

    def pull_back(self, forms: Tensor) -> Tensor:
        """See `TorchMap`."""
        geometry = self.geometry
        images = forms.reshape(-1, *geometry.output_shape)
        reached = [
            (count - 1) * stride + dilation * (extent - 1) + 1
            for count, stride, dilation, extent in zip(
                geometry.output_shape[1:],
                geometry.strides,
                geometry.dilations,
                geometry.kernel.shape[2:],
                strict=True,
            )
        ]
        with torch.backends.cudnn.flags(enabled=False):
            result = functional.conv_transpose2d(
                images,
                self.kernel,
                stride=geometry.strides,
                dilation=geometry.dilations,
                groups=geometry.groups,
            )
        (height, width), (top, left, _, _) = geometry.padded, geometry.pads
        missing = (0, width - reached[1], 0, height - reached[0])
        if any(missing):
            result = functional.pad(result, missing)
        _, rows, columns = geometry.input_shape
        result = result[..., top : top + rows, left : left + columns]
        return result.reshape(*forms.shape[:-1], geometry.num_inputs)

    def absolute(self) -> TorchConvolution:
        """See `TorchMap`."""
        return TorchConvolution(self.kernel.abs(), self.geometry)


@singledispatch
def torch_map(linear: LinearMap, device: str = "cpu") -> TorchMap:
    """A map with its numbers on a device, float64."""
    raise TypeError(f"not a linear map: {linear!r}")


@torch_map.register
def _(linear: DenseMap, device: str = "cpu") -> TorchMap:
    return TorchDense(_tensor(linear.weight, device), linear.blocks)


@torch_map.register
def _(linear: GatherMap, device: str = "cpu") -> TorchMap:
    if linear.is_identity:
        return TorchIdentity()
    read = linear.index >= 0
    factor = np.ones(len(read)) if linear.factor is None else linear.factor
    factor = np.where(read, factor, 0.0)
    inverse, inverse_factor = (
        np.zeros(linear.num_inputs, dtype=np.int64),
        np.zeros(linear.num_inputs),
    )
    inverse[linear.index[read]] = np.flatnonzero(read)
    inverse_factor[linear.index[read]] = factor[read]
    return TorchGather(
        torch.from_numpy(np.where(read, linear.index, 0)).to(device),
        _tensor(factor, device),
        linear.num_inputs,
        torch.from_numpy(inverse).to(device) if linear.longest_sum == 1 else None,
        _tensor(inverse_factor, device),
    )


@torch_map.register
def _(linear: BlockSumMap, device: str = "cpu") -> TorchMap:
    del device
    return TorchBlockSum(linear.size)


@torch_map.register
def _(linear: ConvolutionMap, device: str = "cpu") -> TorchMap:
    return TorchConvolution(_tensor(linear.kernel, device), linear)


def _tensor(array: Float64, device: str) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


@dataclass(frozen=True)
class TorchTerm:
    """One part of a layer's sum: the layer that is read, and the map."""

    source: int
    map: TorchMap


@lru_cache(maxsize=4)
def torch_terms(network: GraphNetwork, device: str = "cpu") -> tuple[tuple[TorchTerm, ...], ...]:
    """The terms of every layer, with their numbers on a device."""
    return tuple(
        tuple(TorchTerm(term.source, torch_map(term.map, device)) for term in layer.terms)
        for layer in network.layers
    )


def forward_values(network: GraphNetwork, inputs: Float64) -> tuple[Float64, ...]:
    """Values before each layer's activation in float64, [samples, neurons] per layer."""
    hidden: dict[int, Tensor] = {
        INPUT: torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float64))
    }
    values = []
    with torch.no_grad():
        for index, (layer, terms) in enumerate(
            zip(network.layers, torch_terms(network), strict=True)
        ):
            value = torch.from_numpy(layer.bias).expand(len(inputs), -1)
            for term in terms:
                value = value + term.map.apply(hidden[term.source])
            values.append(value.numpy())
            hidden[index] = _activated(layer, value)
    return tuple(values)


def output_values(network: GraphNetwork, before: Sequence[Float64]) -> Float64:
    """Outputs, [samples, outputs], from what `forward_values` gave."""
    outputs: Float64 = _activated(network.layers[-1], torch.from_numpy(before[-1])).numpy()
    return outputs


def _activated(layer: GraphLayer, value: Tensor) -> Tensor:
    if layer.curve is not None:
        return curve_value(layer.curve, value)
    return value.clamp(min=0.0) if layer.relu else value


def backward_gradient(
    network: GraphNetwork,
    before: Sequence[Float64],
    rows: Float64,
    inner: Sequence[Float64 | None] | None = None,
) -> Float64:
    """Gradient over the input of `rows . outputs + sum inner . z` at points.

    Where a sign stands in the way it is a direction only: the true one would be zero.

    Args:
        network: The network.
        before: What `forward_values` gave at the points.
        rows: Coefficients over the outputs, [samples, outputs].
        inner: Coefficients over each layer's pre-activations z, [samples, neurons] per layer
            or None.

    Returns:
        [samples, inputs].
    """
    forms: dict[int, Tensor] = {len(network.layers) - 1: torch.from_numpy(rows)}
    total = torch.zeros((len(rows), network.num_inputs), dtype=torch.float64)
    terms = torch_terms(network)
    with torch.no_grad():
        for index in range(len(network.layers) - 1, -1, -1):
            form = forms.pop(index, None)
            curve = network.layers[index].curve
            if form is not None and network.layers[index].relu:
                form = form * torch.from_numpy(before[index] > 0)
            elif form is not None and curve is not None:
                form = form * curve_direction(curve, torch.from_numpy(before[index]))
            extra = None if inner is None else inner[index]
            if extra is not None:
                added = torch.from_numpy(extra)
                form = added if form is None else form + added
            if form is None:
                continue
            for term in terms[index]:
                part = term.map.pull_back(form)
                if term.source == INPUT:
                    total = total + part
                else:
                    known = forms.get(term.source)
                    forms[term.source] = part if known is None else known + part
    gradient: Float64 = total.numpy()
    return gradient
