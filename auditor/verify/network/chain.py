"""A network as a chain of affine maps, each optionally followed by a ReLU.

The chain is the *real* function of the model file: every weight is a float64 that
equals the stored number, and nothing was folded that would have needed rounding.
Floating-point evaluation here is for search; decisions use `evaluate_exact`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import flint
import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnsupportedModel

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AffineLayer:
    """`weight @ h + bias`, then max(., 0) when `relu`.

    Attributes:
        weight: [outputs, inputs], float64, exactly the stored numbers.
        bias: [outputs], float64.
        relu: Whether a ReLU follows.
        name: Name of the node that ends the layer, for people.
        joined: Whether the layer is several operations of the file in one; exact over the
            reals, while a runtime rounds after each of them.
    """

    weight: Float64
    bias: Float64
    relu: bool
    name: str = ""
    joined: bool = False

    @property
    def num_inputs(self) -> int:
        """Width of the incoming vector."""
        return int(self.weight.shape[1])

    @property
    def num_outputs(self) -> int:
        """Width of the outgoing vector."""
        return int(self.weight.shape[0])

    @cached_property
    def _dyadic(self) -> tuple[flint.fmpz_mat, list[int], int]:
        """Integers (weight, bias) and a shift s with value = integer * 2**-s."""
        joined = np.concatenate([self.weight.ravel(), self.bias])
        mantissa, exponent = np.frexp(joined)
        used = mantissa != 0
        shift = max(0, 53 - int(exponent[used].min())) if used.any() else 0
        whole = np.ldexp(mantissa, 53).astype(np.int64).tolist()
        moved = (exponent.astype(np.int64) - 53 + shift).tolist()
        # Powers are never negative: the shift is taken from the smallest exponent.
        integers = [w << s if w else 0 for w, s in zip(whole, moved, strict=True)]
        count = self.weight.size
        matrix = flint.fmpz_mat(self.num_outputs, self.num_inputs, integers[:count])
        return matrix, integers[count:], shift

    def apply_exact(self, inputs: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """The affine map in exact arithmetic, without the ReLU."""
        matrix, bias, shift = self._dyadic
        denominator = 1
        for value in inputs:
            denominator = denominator * value.denominator // _gcd(denominator, value.denominator)
        scaled = [int(value * denominator) for value in inputs]
        product = matrix * flint.fmpz_mat(len(scaled), 1, scaled)
        scale = denominator << shift
        return tuple(
            Fraction(int(product[row, 0]) + bias[row] * denominator, scale)
            for row in range(self.num_outputs)
        )


@dataclass(frozen=True)
class ReluLayer:
    """A place where ReLUs act: which layer of the chain, its name, how many neurons."""

    index: int
    name: str
    neurons: int


@dataclass(frozen=True, eq=False)
class Network:
    """A feed-forward ReLU network.

    Attributes:
        layers: Affine maps in order; the last one usually has no ReLU.
        input_name: Name of the model's input tensor.
        input_shape: Its shape with a batch of one; inputs here are its flat vector.
    """

    layers: tuple[AffineLayer, ...]
    input_name: str = "input"
    input_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            raise UnsupportedModel("the network has no layer", way_out="give at least one")
        for number, (first, second) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if first.num_outputs != second.num_inputs:
                raise UnsupportedModel(
                    f"{first.num_outputs} outputs meet {second.num_inputs} inputs",
                    place=f"layer {number + 1} {second.name}".rstrip(),
                )
        for number, layer in enumerate(self.layers):
            if layer.bias.shape != (layer.num_outputs,):
                raise UnsupportedModel("bias and weight differ in size", place=f"layer {number}")
            if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
                raise UnsupportedModel("a weight is not finite", place=f"layer {number}")

    @property
    def num_inputs(self) -> int:
        """Size of the flat input."""
        return self.layers[0].num_inputs

    @property
    def num_outputs(self) -> int:
        """Size of the flat output."""
        return self.layers[-1].num_outputs

    @property
    def num_relus(self) -> int:
        """Number of ReLU neurons."""
        return sum(layer.num_outputs for layer in self.layers if layer.relu)

    @property
    def relu_layers(self) -> tuple[ReluLayer, ...]:
        """Where the activations are, in order."""
        return tuple(
            ReluLayer(index, layer.name, layer.num_outputs)
            for index, layer in enumerate(self.layers)
            if layer.relu
        )

    def preactivations(self, inputs: Float64) -> tuple[Float64, ...]:
        """Values before each layer's ReLU, [samples, neurons] per layer.

        Args:
            inputs: [samples, inputs], any float type; computed in float64.
        """
        hidden = np.asarray(inputs, dtype=np.float64)
        values = []
        for layer in self.layers:
            value = hidden @ layer.weight.T + layer.bias
            values.append(value)
            hidden = np.maximum(value, 0.0) if layer.relu else value
        return tuple(values)

    def evaluate(self, inputs: Float64) -> Float64:
        """Outputs in float64 with ordinary rounding, [samples, outputs]."""
        return self.outputs(self.preactivations(inputs))

    def outputs(self, before: Sequence[Float64]) -> Float64:
        """Outputs, [samples, outputs], from what `preactivations` gave."""
        return np.maximum(before[-1], 0.0) if self.layers[-1].relu else before[-1]

    def gradient(
        self,
        before: Sequence[Float64],
        rows: Float64,
        inner: Sequence[Float64 | None] | None = None,
    ) -> Float64:
        """Gradient over the inputs of `rows . outputs + sum inner . z`, [samples, inputs].

        Args:
            before: What `preactivations` gave at the points.
            rows: Coefficients over the outputs, [samples, outputs].
            inner: Coefficients over each layer's pre-activations z, [samples, neurons] per
                layer or None.
        """
        gradient = rows
        for index in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[index]
            if layer.relu:
                gradient = np.where(before[index] > 0, gradient, 0.0)
            extra = None if inner is None else inner[index]
            gradient = (gradient if extra is None else gradient + extra) @ layer.weight
        return gradient

    def preactivations_exact(self, inputs: Sequence[Fraction]) -> tuple[tuple[Fraction, ...], ...]:
        """Values before each layer's ReLU at one input, in exact rational arithmetic."""
        values = []
        hidden = tuple(inputs)
        for layer in self.layers:
            values.append(layer.apply_exact(hidden))
            hidden = _rectified(values[-1]) if layer.relu else values[-1]
        return tuple(values)

    def evaluate_exact(self, inputs: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Outputs of one input in exact rational arithmetic."""
        last = self.preactivations_exact(inputs)[-1]
        return _rectified(last) if self.layers[-1].relu else last


def _rectified(values: Sequence[Fraction]) -> tuple[Fraction, ...]:
    return tuple(max(entry, Fraction(0)) for entry in values)


def _gcd(first: int, second: int) -> int:
    return int(flint.fmpz(first).gcd(flint.fmpz(second)))
