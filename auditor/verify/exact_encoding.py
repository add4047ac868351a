"""A network over one box as exact linear forms, for exact solvers.

Stable neurons are substituted exactly; only unstable ones get a variable of their own. A
form over d variables is a list of d + 1 fractions: inputs first, then unstable neurons in
order, the constant last. Bounds that are handed in must be proved outward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from auditor.verify.network import GraphNetwork
from auditor.verify.network.chain import Float64
from auditor.verify.network.exact_image import Form, layer_image
from auditor.verify.network.graph import INPUT
from auditor.verify.phases import Int8

Ends = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Unstable:
    """An unstable neuron: its form over the variables, its bounds, its column."""

    form: list[Fraction]
    lower: Fraction
    upper: Fraction
    column: int


@dataclass(frozen=True)
class Encoding:
    """A network over one box as exact forms; the last entry of a form is constant.

    Attributes:
        outputs: The outputs.
        unstable: Neurons with a variable of their own.
        demands: Forms that must be at least 0: what a pattern asks.
    """

    outputs: list[Form]
    unstable: list[Unstable]
    demands: list[Form]


def encode(
    network: GraphNetwork,
    ends: Sequence[Ends],
    neuron_bounds: Sequence[tuple[Float64, Float64]] | None,
    phases: Sequence[Int8],
) -> Encoding:
    """The network as forms over inputs and unstable neurons."""
    ranges: list[Ends] = list(ends)
    unstable: list[Unstable] = []
    demands: list[Form] = []
    count = len(ends)
    hidden = {INPUT: [[Fraction(int(i == j)) for j in range(count + 1)] for i in range(count)]}
    for index, layer in enumerate(network.layers):
        before = layer_image(layer, hidden)
        if not layer.relu:
            hidden[index] = before
            continue
        after: list[Form] = []
        fresh: list[Unstable] = []
        asked = phases[index] if index < len(phases) else ()
        for neuron, form in enumerate(before):
            phase = int(asked[neuron]) if neuron < len(asked) else 0
            low, high = _range(form, ranges)
            if neuron_bounds is not None:
                low = _tighter(low, neuron_bounds[index][0][neuron], max)
                high = _tighter(high, neuron_bounds[index][1][neuron], min)
            if phase:
                demands.append([phase * value for value in form])
            if phase < 0 or (high <= 0 and not phase):
                after.append([Fraction(0)] * len(form))
            elif phase > 0 or low >= 0:
                after.append(form)
            else:
                column = len(ranges) + len(fresh)
                fresh.append(Unstable(form, low, high, column))
                after.append([])
        for source, forms in hidden.items():
            hidden[source] = [_widened(form, len(fresh)) for form in forms]
        hidden[index] = _with_columns(after, fresh, len(ranges))
        ranges.extend((Fraction(0), neuron.upper) for neuron in fresh)
        unstable.extend(fresh)
    last = hidden[len(network.layers) - 1]
    return Encoding(last, unstable, demands)


def _range(form: Sequence[Fraction], ranges: Sequence[Ends]) -> Ends:
    """Exact interval of a form over its variables' ranges."""
    low = high = form[-1]
    for factor, (start, end) in zip(form[:-1], ranges, strict=True):
        if factor > 0:
            low, high = low + factor * start, high + factor * end
        elif factor < 0:
            low, high = low + factor * end, high + factor * start
    return low, high


def _tighter(own: Fraction, proved: float, choose: Any) -> Fraction:
    return Fraction(choose(own, Fraction(float(proved)))) if np.isfinite(proved) else own


def _widened(form: Form, count: int) -> Form:
    """The form over `count` more variables that it does not speak of."""
    return [*form[:-1], *([Fraction(0)] * count), form[-1]]


def _with_columns(forms: list[Form], fresh: Sequence[Unstable], columns: int) -> list[Form]:
    """Widen forms by the new variables; an empty form stands for the next new variable."""
    new = iter(fresh)
    widened = []
    for form in forms:
        if form:
            widened.append(_widened(form, len(fresh)))
        else:
            wide = [Fraction(0)] * (columns + len(fresh) + 1)
            wide[next(new).column] = Fraction(1)
            widened.append(wide)
    return widened
