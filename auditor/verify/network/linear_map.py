"""Linear maps between layers, as stored numbers: dense, gather, block sums, convolution.

A map acts on flat vectors. It says how it is built and how long its longest sum is, which
the error terms need; applying it is the business of `auditor.verify.torch_map`. An entry
is exactly a stored number, or such a number divided by another and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from auditor.verify.network.chain import Float64

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DenseMap:
    """`weight` applied to each of several blocks of the input.

    Attributes:
        weight: [outputs of a block, inputs of a block], float64.
        blocks: How many blocks lie one after the other.
    """

    weight: Float64
    blocks: int = 1

    @property
    def num_inputs(self) -> int:
        """Size of the flat input."""
        return int(self.weight.shape[1]) * self.blocks

    @property
    def num_outputs(self) -> int:
        """Size of the flat output."""
        return int(self.weight.shape[0]) * self.blocks

    @property
    def longest_sum(self) -> int:
        """Most products added up for one output, or for one input on the way back."""
        return int(max(self.weight.shape))


@dataclass(frozen=True, eq=False)
class GatherMap:
    """Each output is one input times a factor, or zero.

    Attributes:
        index: Which input each output reads, [outputs]; -1 for a zero.
        num_inputs: Size of the flat input.
        factor: What it is multiplied with, [outputs]; ones where None.
    """

    index: Int64
    num_inputs: int
    factor: Float64 | None = None

    @property
    def num_outputs(self) -> int:
        """Size of the flat output."""
        return len(self.index)

    @cached_property
    def longest_sum(self) -> int:
        """Most products added up for one input on the way back."""
        used = self.index[self.index >= 0]
        return int(np.bincount(used).max()) if used.size else 1

    @cached_property
    def is_identity(self) -> bool:
        """Whether the output is the input."""
        return (
            self.factor is None
            and len(self.index) == self.num_inputs
            and bool((self.index == np.arange(self.num_inputs)).all())
        )


@dataclass(frozen=True)
class BlockSumMap:
    """Each output is the sum of `size` consecutive inputs."""

    num_outputs: int
    size: int

    @property
    def num_inputs(self) -> int:
        """Size of the flat input."""
        return self.num_outputs * self.size

    @property
    def longest_sum(self) -> int:
        """Most terms added up for one output."""
        return self.size


@dataclass(frozen=True, eq=False)
class ConvolutionMap:
    """A two-dimensional convolution (cross-correlation, as everywhere in this field).

    Attributes:
        kernel: [output channels, input channels of a group, height, width].
        input_shape: Channels, height and width of the input.
        strides: Along height and width.
        pads: Zeros added at top, left, bottom and right.
        dilations: Along height and width.
        groups: Groups of channels that do not mix.
    """

    kernel: Float64
    input_shape: tuple[int, int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width with padding."""
        top, left, bottom, right = self.pads
        return self.input_shape[1] + top + bottom, self.input_shape[2] + left + right

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the output."""
        height, width = (
            (size - dilation * (extent - 1) - 1) // stride + 1
            for size, extent, stride, dilation in zip(
                self.padded, self.kernel.shape[2:], self.strides, self.dilations, strict=True
            )
        )
        return int(self.kernel.shape[0]), height, width

    @property
    def num_inputs(self) -> int:
        """Size of the flat input."""
        return int(np.prod(self.input_shape))

    @property
    def num_outputs(self) -> int:
        """Size of the flat output."""
        return int(np.prod(self.output_shape))

    @property
    def longest_sum(self) -> int:
        """Most products added up for one output, or for one input on the way back."""
        outputs, inputs, height, width = self.kernel.shape
        return int(max(inputs, outputs // self.groups) * height * width)


LinearMap = DenseMap | GatherMap | BlockSumMap | ConvolutionMap


def identity_map(size: int) -> GatherMap:
    """The map that changes nothing."""
    return GatherMap(np.arange(size), size)
