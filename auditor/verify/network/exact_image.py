"""Images of linear forms under linear maps, in exact rationals.

A form over d variables is a list of d + 1 fractions, the last one constant. Entries of the
maps are taken exactly as they are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import singledispatch
from itertools import product
from typing import Any

import flint

from auditor.verify.network.graph import INPUT, GraphLayer, GraphNetwork
from auditor.verify.network.linear_map import (
    BlockSumMap,
    ConvolutionMap,
    DenseMap,
    GatherMap,
    LinearMap,
)

Form = list[Fraction]
MAX_PRODUCTS = 4_000_000
MAX_VALUES = 50_000


def exact_cost(network: GraphNetwork) -> int:
    """Products of one exact pass over forms in the inputs, roughly."""
    return network.evaluation_cost * (network.num_inputs + 1)


def has_exact_values(network: GraphNetwork) -> bool:
    """Whether a graph is small and free of rounded numbers, so that fractions serve."""
    return not network.rounded and network.evaluation_cost <= MAX_VALUES


def exact_values(
    network: GraphNetwork, inputs: Sequence[Fraction]
) -> tuple[tuple[Fraction, ...], ...]:
    """Values before each layer's ReLU at one input, in exact rational arithmetic.

    Args:
        network: The network.
        inputs: [inputs].

    Returns:
        [neurons] per layer.
    """
    hidden = {INPUT: [[value] for value in inputs]}
    before = []
    for index, layer in enumerate(network.layers):
        values = [form[-1] for form in layer_image(layer, hidden)]
        before.append(tuple(values))
        hidden[index] = [[max(value, Fraction(0)) if layer.relu else value] for value in values]
    return tuple(before)


def layer_image(layer: GraphLayer, hidden: dict[int, list[Form]]) -> list[Form]:
    """A layer's pre-activations as forms.

    Args:
        layer: The layer.
        hidden: Forms of the layers it reads and of `INPUT`, all over the same variables.
    """
    length = len(hidden[INPUT][0])
    total = [[Fraction(0)] * (length - 1) + [Fraction(value)] for value in layer.bias.tolist()]
    for term in layer.terms:
        for form, part in zip(total, exact_image(term.map, hidden[term.source]), strict=True):
            for column, value in enumerate(part):
                if value:
                    form[column] += value
    return total


@singledispatch
def exact_image(linear: LinearMap, forms: Sequence[Form]) -> list[Form]:
    """The map applied to forms, one for each of its inputs; one for each of its outputs."""
    raise TypeError(f"not a linear map: {linear!r}")


@exact_image.register
def _(linear: DenseMap, forms: Sequence[Form]) -> list[Form]:
    rows, columns = linear.weight.shape
    matrix = flint.fmpq_mat(rows, columns, [_fmpq(v) for v in linear.weight.ravel().tolist()])
    image: list[Form] = []
    for block in range(linear.blocks):
        part = forms[block * columns : (block + 1) * columns]
        flat = [flint.fmpq(v.numerator, v.denominator) for form in part for v in form]
        width = len(flat) // max(1, columns)
        result = matrix * flint.fmpq_mat(columns, width, flat)
        image += [
            [Fraction(int(result[r, c].p), int(result[r, c].q)) for c in range(width)]
            for r in range(rows)
        ]
    return image


@exact_image.register
def _(linear: GatherMap, forms: Sequence[Form]) -> list[Form]:
    factors = [1.0] * linear.num_outputs if linear.factor is None else linear.factor.tolist()
    return [
        _sum_of([(Fraction(factor), forms[place])] if place >= 0 else [], len(forms[0]))
        for place, factor in zip(linear.index.tolist(), factors, strict=True)
    ]


@exact_image.register
def _(linear: BlockSumMap, forms: Sequence[Form]) -> list[Form]:
    one, size = Fraction(1), linear.size
    return [
        _sum_of([(one, form) for form in forms[start : start + size]], len(forms[0]))
        for start in range(0, len(forms), size)
    ]


@exact_image.register
def _(linear: ConvolutionMap, forms: Sequence[Form]) -> list[Form]:
    places = product(*(range(size) for size in linear.output_shape))
    return [_sum_of(_window(linear, forms, *place), len(forms[0])) for place in places]


def _window(
    linear: ConvolutionMap, forms: Sequence[Form], channel: int, row: int, column: int
) -> list[tuple[Fraction, Form]]:
    """The products that a convolution adds up for one output."""
    _, height, width = linear.input_shape
    outputs, depth, *extent = linear.kernel.shape
    first = channel // (outputs // linear.groups) * depth
    found = []
    for inner, i, j in product(range(depth), range(extent[0]), range(extent[1])):
        y = row * linear.strides[0] + i * linear.dilations[0] - linear.pads[0]
        x = column * linear.strides[1] + j * linear.dilations[1] - linear.pads[1]
        factor = float(linear.kernel[channel, inner, i, j])
        if factor and 0 <= y < height and 0 <= x < width:
            place = ((first + inner) * height + y) * width + x
            found.append((Fraction(factor), forms[place]))
    return found


def _sum_of(parts: Sequence[tuple[Fraction, Form]], length: int) -> Form:
    total = [Fraction(0)] * length
    for factor, form in parts:
        for column, value in enumerate(form):
            if value:
                total[column] += factor * value
    return total


def _fmpq(value: float) -> Any:
    numerator, denominator = value.as_integer_ratio()
    return flint.fmpq(numerator, denominator)
