"""Linear lower bounds in float64 with every rounding accounted for.

A form is a sum of coefficients times tensors; passing it backwards through the network
replaces it by a form over the input that is smaller (Zhang et al. 2018, CROWN; Wang et al.
2021, beta-CROWN). Coefficients are *defined* by their floats: at a tensor `A h + b` the
new form is `fl(form A)`, which differs from `form A` by at most `gamma_n |form| |A|` with n
the longest sum, so the bound loses at most `gamma_n |form| . (|A| M)` where |h| <= M over
the region (and nothing where the form only picks one row of A); joining two forms and
multiplying by a slope lose one rounding of the result each (nothing where the neuron is
off), `form . b` at most `gamma_w |form| . |b|`, and the sum of T constants `gamma_T` times
the sum of their sizes (Higham 2002, lemma 3.1: any order of summation, fused or not). All
of it is `sum |form| . errors` plus `gamma` times what intercepts and the box contribute.
Slopes are floats in [0, 1]; an intercept is a float with a relative error of a few
roundings. An overflow gives infinity or NaN, and neither proves anything. Float32 execution
adds `gamma'_(n+4) (|A| M + |b|)` and what underflow can lose to every tensor (Higham,
section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from auditor.verify.certificate.statement import Float64, Region, Tensor

UNIT = 2.0**-53
LARGEST_32 = float(np.finfo(np.float32).max)
MAX_CELLS = 1 << 16  # rows of this size stay in the processor's cache


class Relaxation(NamedTuple):
    """Bounds of one ReLU layer's neurons and what they allow, [nodes, neurons] each.

    `down * z <= max(z, 0) <= up * z + top` on [lower, upper]; any `down` in [0, 1] does
    where `free`. `sign` is 1 or -1 where the sign of z is known.
    """

    lower: Float64
    upper: Float64
    down: Float64
    up: Float64
    top: Float64
    sign: Float64

    @staticmethod
    def of(lower: Float64, upper: Float64) -> Relaxation:
        """The relaxation with the default slopes: 1 below where u > -l, else 0."""
        sign = (lower >= 0).astype(np.float64) - ((upper <= 0) & (lower < 0))
        chord = np.clip(upper / (upper - lower), 0.0, 1.0)
        up = np.where(sign == 0, chord, sign > 0)
        down = np.where(sign == 0, upper > -lower, sign > 0).astype(np.float64)
        top = np.where(sign == 0, np.maximum(-up * lower, (1.0 - up) * upper), 0.0)
        return Relaxation(lower, upper, down, up, top, sign)


class Multipliers(NamedTuple):
    """What a certificate chooses for the rows of one ReLU layer.

    Attributes:
        slopes: Lower slopes in [0, 1], [rows, neurons], used where the sign is unknown.
        row, neuron, value: Phase multipliers, not negative: `value * sign * z >= 0` is
            subtracted from the row.
    """

    slopes: Float64
    row: Any
    neuron: Any
    value: Float64


class Forms(NamedTuple):
    """Lower bounds `coefficients . x + constant` over the input; `lower` over the box."""

    coefficients: Float64
    constant: Float64
    lower: Float64


class Arithmetic:
    """A region's network with what rounding can do to bounds over it.

    Attributes:
        ranges: Bounds of every tensor over the region, pairs of [own size].
        errors: What a coefficient of 1 on each tensor can lose, [own size].
        single: The same where every form has one coefficient, 1 or -1: then passing it
            on is exact.
        joined: Numbers of tensors that several others read, where forms are added.
        factor: Relative error of sums over intercepts and over the box.
        floor: What underflow can lose in one pass.
    """

    def __init__(self, region: Region, noise: bool) -> None:
        self.tensors, self.region = region.tensors, region
        self.ranges = [(region.lower, region.upper)]
        self.errors = [np.zeros(len(region.lower))]
        self.single = [np.zeros(len(region.lower))]
        self.count = len(self.tensors) + 16
        read = [source for tensor in self.tensors for source in tensor.sources]
        self.joined = {source for source in read if read.count(source) > 1}
        for number, tensor in enumerate(self.tensors[1:], start=1):
            # The property's rows are the last tensor, and nobody executes them.
            self._extend(tensor, noise and number < len(self.tensors) - 1)
        longest = max(len(tensor.bias) for tensor in self.tensors)
        self.factor = gamma(longest + self.count, UNIT)
        reach = 2.0 + sum(float(np.abs(end).sum()) for pair in self.ranges for end in pair)
        self.floor = max((reach + longest * self.count) ** 2 * 2.0**-1000, 1e-290)

    def _extend(self, tensor: Tensor, executed: bool) -> None:
        """Ranges, by centre and radius, and errors of the next tensor."""
        if tensor.relu >= 0:
            low, high = self.ranges[tensor.sources[0]]
            self.ranges.append((np.maximum(low, 0.0), np.maximum(high, 0.0)))
            self.errors.append(gamma(self.count, UNIT) * np.maximum(np.abs(low), np.abs(high)))
            self.single.append(self.errors[-1])
            return
        size, middle, spread = np.abs(tensor.bias), tensor.bias, np.zeros_like(tensor.bias)
        tiny = np.zeros_like(size)
        for source, matrix in zip(tensor.sources, tensor.maps, strict=True):
            low, high = self.ranges[source]
            reach = np.maximum(np.abs(low), np.abs(high))
            size = size + _image(abs(matrix), reach)
            middle = middle + _image(matrix, 0.5 * low + 0.5 * high)
            spread = spread + _image(abs(matrix), 0.5 * high - 0.5 * low)
            tiny = tiny + _image(abs(matrix), np.ones_like(low)) + float(reach.sum())
        slack = gamma(tensor.longest_sum + self.count, UNIT)
        size = size * (1.0 + slack) + 1e-300
        noise = np.zeros_like(size)
        if executed:
            count = tensor.longest_sum + 4
            noise = 1.01 * (gamma(count, 2.0**-24) * size + 2.0**-125 * (2.0 * count + tiny))
            # A sum that may overflow in float32 may become anything.
            noise = np.where(size + noise < LARGEST_32, noise, np.inf)
        spread = spread + 8.0 * slack * size + noise + 1e-300
        self.ranges.append((np.fmax(-size - noise, middle - spread),
                            np.fmin(size + noise, middle + spread)))  # fmt: skip
        dot = gamma(len(tensor.bias) + self.count, UNIT) * np.abs(tensor.bias)
        self.errors.append(slack * (size + noise) + dot + noise)
        self.single.append(dot + noise)


def _image(matrix: Any, values: Float64) -> Any:
    return matrix * values if isinstance(matrix, float) else matrix @ values


def _pulled(form: Float64, matrix: Any) -> Any:
    """Coefficients over the source of a map."""
    if isinstance(matrix, float):
        return form if matrix == 1.0 else matrix * form
    return form @ matrix


def gamma(count: int, unit: float) -> float:
    """`count * unit / (1 - count * unit)`, rounded up generously; infinite beyond 1/2."""
    product = count * unit
    return 1.02 * product / (1.0 - product) if product < 0.5 else np.inf


def backward(
    arithmetic: Arithmetic, target: int, start: Float64, nodes: Any,
    known: Sequence[Relaxation], box: tuple[Float64, Float64],
    chosen: Sequence[Multipliers] | None = None,
) -> Forms:  # fmt: skip
    """Certified lower bounds of `start . tensor` on nodes, by one pass to the input.

    Args:
        arithmetic: The region.
        target: Number of the bounded tensor.
        start: Coefficients over it, [rows, own size].
        nodes: The node of each row, [rows].
        known: Relaxation of each ReLU layer that comes before, over the nodes.
        box: Box ends of the nodes, [nodes, inputs] each.
        chosen: Multipliers of each ReLU layer, or None for the default slopes.
    """
    constant, error, size = np.zeros(len(start)), np.zeros(len(start)), np.zeros(len(start))
    waiting = {target: start}
    single = np.isin(start, (-1.0, 0.0, 1.0)).all() and (np.count_nonzero(start, axis=1) < 2).all()
    for number in range(target, 0, -1):
        tensor, form = arithmetic.tensors[number], waiting.pop(number, None)
        if tensor.relu >= 0 and (form is not None or chosen is not None):
            form = np.zeros((len(start), len(tensor.bias))) if form is None else form
            free = None if chosen is None else chosen[tensor.relu]
            if number in arithmetic.joined:
                lost = np.where(known[tensor.relu].sign[nodes] < 0, 0.0, np.abs(form))
                error += lost @ arithmetic.errors[number]
            form, part = _through_relu(form, known[tensor.relu], nodes, free)
            error += np.abs(form) @ arithmetic.errors[number]
            single = False
            constant, size = constant + part, size - part
            images = [form]
        elif form is not None:
            error += np.abs(form) @ (arithmetic.single if single else arithmetic.errors)[number]
            # Only as long as there is one path, and every map so far was the identity.
            single = single and len(tensor.maps) == 1 and isinstance(tensor.maps[0], float)
            constant += form @ tensor.bias
            images = [_pulled(form, matrix) for matrix in tensor.maps]
        else:
            continue
        for source, image in zip(tensor.sources, images, strict=True):
            waiting[source] = waiting[source] + image if source in waiting else image
    form = waiting.get(0, np.zeros((len(start), len(arithmetic.region.lower))))
    low, high = box[0][nodes], box[1][nodes]
    value = np.where(form > 0, form * low, form * high).sum(axis=1)
    size += (np.abs(form) * np.maximum(np.abs(low), np.abs(high))).sum(axis=1)
    constant = constant - error - arithmetic.factor * size - arithmetic.floor
    # An infinite constant would hide errors that are finite.
    constant = np.where(np.isfinite(constant), constant, np.nan)
    return Forms(form, constant, constant + value - arithmetic.factor * size)


def _through_relu(
    form: Float64, known: Relaxation, nodes: Any, free: Multipliers | None
) -> tuple[Float64, Float64]:
    """Coefficients before a ReLU, and what its intercepts add to the constant."""
    down = known.down[nodes]
    if free is not None:
        down = np.where(known.sign[nodes] == 0, free.slopes, down)
    part = (np.minimum(form, 0.0) * known.top[nodes]).sum(axis=1)
    before = np.where(form < 0, known.up[nodes], down) * form
    if free is not None and len(free.row):
        push = free.value * known.sign[nodes[free.row], free.neuron]
        np.subtract.at(before, (free.row, free.neuron), push)
    return before, part
