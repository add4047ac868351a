"""Lower bounds of linear forms of a ReLU network, in exact integers with directed floors.

Every number is an integer held in a float64 and stays below 2**53, so products and sums
(matrix products included, in any order and with fused operations) are exact; scaling by
a power of two and `floor` are exact too. A form `sum_j c_j h_j + c` carries one exponent.
Over activations h >= 0, so a floored coefficient gives a smaller form: that is the only
rounding there is. Past a ReLU, `c max(z, 0) >= c' z + d` holds on [l, u] for *any* integer
c' with d = min(-c' l, (c - c') u, 0) (both sides are compared at l, 0 and u; in between
they are linear), and with d = 0 where z >= 0 and c' <= c, or z <= 0 and c' >= 0. So slopes
and multipliers from a certificate can weaken a bound, never falsify it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import CertificateRejected, UnsupportedModel

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LIMB = 17  # bits of each of the two digits of a weight
CONSTANT_BITS = 33
INPUT_BITS = 29
BOX_BITS = 24  # a box has integer ends in [0, 2**24]
BOUND_BITS = 22
HEADROOM = 2  # bits that phase multipliers may add to a coefficient
CHUNK = 512


class FixedLayer(NamedTuple):
    """`W h + b` as two digits: entry = (high * 2**17 + low + r) * 2**(scale - 34), |r| <= miss.

    Fields: digits [outputs, 2 * (inputs + 1)], high beside low, the bias last in each;
    scale; miss (1 or 0); bits a coefficient over the outputs, and over the inputs, may have.
    """

    digits: Float64
    scale: int
    miss: float
    bits: int
    input_bits: int


class Forms(NamedTuple):
    """Linear forms `(coefficients . h + constants) * 2**exponents`, rows first."""

    coefficients: Float64
    constants: Float64
    exponents: Int64

    def pick(self, index: Int64 | slice) -> Forms:
        """Some of the forms."""
        return Forms(self.coefficients[index], self.constants[index], self.exponents[index])


class Relaxation(NamedTuple):
    """What is known of one layer's pre-activations, all [nodes, neurons].

    Fields: minus_low and high, zero where the phase is known; slopes above and below;
    reach (the larger of both); phase (1, -1, or 0 where unknown).
    """

    minus_low: Float64
    high: Float64
    above: Float64
    below: Float64
    reach: Float64
    phase: NDArray[np.int8]

    def pick(self, index: Int64 | NDArray[np.bool_]) -> Relaxation:
        """The relaxation of some nodes."""
        return Relaxation(
            self.minus_low[index], self.high[index], self.above[index], self.below[index],
            self.reach[index], self.phase[index],
        )  # fmt: skip


def fixed_layer(weight: Float64, bias: Float64, input_bits: int, *, exact: bool) -> FixedLayer:
    """Digits of a layer; unless `exact`, entries may be off by a relative 2**-52."""
    matrix = np.concatenate([weight, bias[:, None]], axis=1)
    scale = max(0, int(np.frexp(np.abs(matrix).max(initial=0.0))[1]))
    if not np.isfinite(matrix).all() or scale > 900 or len(matrix) >= 1 << 16:
        raise UnsupportedModel("a layer too wide, or with weights too large, for a certificate")
    scaled = matrix * 2.0 ** (LIMB - scale)
    high = np.rint(scaled)
    low = np.rint((scaled - high) * 2.0**LIMB)
    whole = np.array_equal((high + low * 2.0**-LIMB) * 2.0 ** (scale - LIMB), matrix)
    miss = 0.0 if exact and whole else 1.0
    digits = np.concatenate([high, low], axis=1)
    return FixedLayer(digits, scale, miss, form_bits(len(bias)), input_bits)


def form_bits(width: int) -> int:
    """Bits of a coefficient such that `width` products with a digit stay below 2**52."""
    return min(29, 52 - LIMB - max(1, int(width - 1).bit_length()))


def relaxation(lower: Float64, upper: Float64) -> Relaxation:
    """The relaxation of bounds, [nodes, neurons]; the slopes are guesses that need no care."""
    phase = (lower >= 0).astype(np.int8) - ((upper <= 0) & (lower < 0))
    unstable = phase == 0
    low, high = np.where(unstable, -lower, 0.0), np.where(unstable, upper, 0.0)
    active = (phase > 0).astype(np.float64)
    above = np.where(unstable, high / np.where(unstable, high + low, 1.0), active)
    return Relaxation(
        low, high, above, np.where(unstable, high > low, active), np.maximum(low, high), phase
    )


def through_affine(layer: FixedLayer, forms: Forms) -> Forms:
    """Forms over a layer's outputs as forms, not larger, over its inputs (which are >= 0)."""
    width = layer.digits.shape[1] // 2
    product = forms.coefficients @ layer.digits
    if layer.miss:
        product[:, width:] -= layer.miss * np.abs(forms.coefficients).sum(axis=1)[:, None]
    result = product[:, width:] * 2.0**-LIMB
    np.floor(result, out=result)
    result += product[:, :width]
    result[:, -1] += np.floor(forms.constants * 2.0 ** (LIMB - layer.scale))
    top = np.maximum(result[:, :-1].max(axis=1, initial=0), -result[:, :-1].min(axis=1, initial=0))
    shift = np.maximum(
        np.frexp(top)[1] - layer.input_bits, np.frexp(np.abs(result[:, -1]))[1] - CONSTANT_BITS
    )
    result *= np.ldexp(1.0, -shift)[:, None]
    np.floor(result, out=result)
    exponents = forms.exponents + (layer.scale - LIMB) + shift
    return Forms(result[:, :-1], result[:, -1], exponents)


def through_relu(
    known: Relaxation,
    nodes: Int64,
    forms: Forms,
    slopes: Float64 | None = None,
    pushes: tuple[Int64, Int64, Float64] | None = None,
) -> Forms:
    """Forms over activations as forms, not larger, over pre-activations.

    Args:
        known: The relaxation per node.
        nodes: The node of each form.
        forms: The forms over h = max(z, 0).
        slopes: Lower slopes in [0, 1] for unknown phases, [forms, neurons].
        pushes: Multipliers of known phases: form, neuron, amount >= 0.
    """
    coefficients, constants = forms.coefficients, forms.constants
    negative = np.minimum(coefficients, 0.0)
    loss = -np.einsum("ij,ij->i", negative, known.reach[nodes])
    shift = np.maximum(0, np.frexp(np.abs(constants) + loss)[1] - CONSTANT_BITS)
    if shift.any():
        scale = np.ldexp(1.0, -shift)
        coefficients = coefficients * scale[:, None]
        constants = np.floor(constants * scale)
        negative *= scale[:, None]
    below = known.below[nodes]
    if slopes is not None:
        below = np.where(known.phase[nodes] == 0, slopes, below)
    passed = coefficients - negative
    passed *= below
    negative *= known.above[nodes]
    passed += negative
    np.floor(passed, out=passed)
    if pushes is not None and len(pushes[0]):
        form, neuron, amount = pushes
        amount = np.floor(np.ldexp(amount, -(forms.exponents[form] + shift[form])))
        np.subtract.at(passed, (form, neuron), amount * known.phase[nodes[form], neuron])
    lost = coefficients - passed
    lost *= known.high[nodes]
    np.minimum(lost, passed * known.minus_low[nodes], out=lost)
    np.minimum(lost, 0.0, out=lost)
    constants = constants + np.floor(lost, out=lost).sum(axis=1)
    return Forms(passed, constants, forms.exponents + shift)


def over_box(forms: Forms, lower: Float64, upper: Float64) -> Float64:
    """Lower ends of forms over their boxes, integers in units of 2**exponents, [forms]."""
    smallest = np.minimum(forms.coefficients * lower, forms.coefficients * upper)
    return np.asarray(forms.constants + np.floor(smallest * 2.0**-BOX_BITS).sum(axis=1))


def backward(
    layers: Sequence[FixedLayer],
    known: Sequence[Relaxation],
    nodes: Int64,
    forms: Forms,
    box: tuple[Float64, Float64],
    slopes: Sequence[Float64] | None = None,
    pushes: Sequence[tuple[Int64, Int64, Float64] | None] | None = None,
) -> tuple[Float64, Forms]:
    """Pass forms over the activations of the last of `known` down to the input.

    Returns:
        Lower ends over the boxes, as in `over_box`, and the forms over the input.
        A form whose numbers grew too large ends at -inf.
    """
    spoilt = np.zeros(len(nodes), dtype=bool)
    for k in range(len(known) - 1, -1, -1):
        forms = through_relu(
            known[k], nodes, forms,
            None if slopes is None else slopes[k], None if pushes is None else pushes[k],
        )  # fmt: skip
        if pushes is not None:
            spoilt |= ~(np.abs(forms.coefficients).max(axis=1, initial=0) <= 2.0 ** layers[k].bits)
        forms = through_affine(layers[k], forms)
    ends = over_box(forms, box[0][nodes], box[1][nodes])
    return np.where(spoilt | ~np.isfinite(ends), -np.inf, ends), forms


def rounded_down(values: Float64, exponents: Int64) -> Float64:
    """`values * 2**exponents` as floats of 22 bits that are not larger."""
    mantissas, powers = np.frexp(values)
    powers = powers + exponents
    short = np.ldexp(np.floor(mantissas * 2.0**BOUND_BITS), np.clip(powers, -800, 800) - BOUND_BITS)
    # Outside the range of ordinary floats only the sign of a bound is kept.
    tiny, huge = powers < -800, powers > 800
    short = np.where(tiny, np.where(values < 0, -(2.0**-800), 0.0), short)
    short = np.where(huge, np.where(values < 0, -np.inf, 2.0**700), short)
    return np.where(np.isfinite(values), short, -np.inf)


class NodeBounds:
    """Bounds of all hidden neurons at some nodes, tightened by lemmas.

    Attributes:
        lower, upper: One array per hidden layer, [nodes, neurons].
        box: Lower and upper ends in integers of the box grid, [nodes, inputs].
    """

    def __init__(
        self,
        layers: Sequence[FixedLayer],
        rows: Sequence[Forms],
        bounds: tuple[list[Float64], list[Float64]],
        box: tuple[Float64, Float64],
    ) -> None:
        self.layers, self.rows, self.box = layers, rows, box
        self.lower, self.upper = bounds
        self.known: list[Relaxation] = []

    def tighten(self, nodes: Int64, sides: Int64, *, keep: bool = False) -> Float64:
        """Bound neurons of the next layer: side 2 j is +z_j, side 2 j + 1 is -z_j.

        Afterwards the layer is done. Returns the sizes of the forms' coefficients over the
        input, [lemmas, inputs], if they are to be kept.
        """
        k = len(self.known)
        lower, upper = self.lower[k], self.upper[k]
        sizes = np.zeros((len(nodes) if keep else 0, self.box[0].shape[1]))
        for first in range(0, len(nodes), CHUNK):
            part = slice(first, first + CHUNK)
            node, side = nodes[part], sides[part]
            start = self.rows[k].pick(side)
            ends, forms = backward(self.layers[:k], self.known, node, start, self.box)
            values, odd = rounded_down(ends, forms.exponents), (side & 1).astype(bool)
            np.maximum.at(lower, (node[~odd], side[~odd] >> 1), values[~odd])
            np.minimum.at(upper, (node[odd], side[odd] >> 1), -values[odd])
            if keep:
                sizes[part] = np.ldexp(np.abs(forms.coefficients), forms.exponents[:, None])
        if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
            raise CertificateRejected(f"layer {k} is used before all of it is bounded")
        self.known.append(relaxation(lower, upper))
        return sizes

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Which nodes contain no point, because bounds contradict each other, [nodes]."""
        empty = np.zeros(len(self.box[0]), dtype=np.bool_)
        for low, high in zip(self.lower, self.upper, strict=True):
            empty |= (low > high).any(axis=1)
        return empty


def rows_of(layer: FixedLayer) -> Forms:
    """Both signs of every row of a layer as forms over its inputs: +z_0, -z_0, +z_1, ..."""
    count = len(layer.digits)
    signs = np.repeat(np.eye(count), 2, axis=0)
    signs[1::2] *= -1.0
    zero = np.zeros(2 * count)
    return through_affine(layer, Forms(signs, zero, zero.astype(np.int64)))
