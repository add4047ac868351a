"""Rigorous enclosures of a graph's outputs at one input, in place of exact arithmetic.

Exact fractions of a convolutional network grow beyond use. Float64 intervals with error
terms say the same where the margin is larger than their width, and nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from auditor.verify.bounds import BoundedNetwork, interval_bounds
from auditor.verify.network import GraphNetwork
from auditor.verify.network.chain import Float64
from auditor.verify.phases import Int8
from auditor.verify.property import UnsafeCase
from auditor.verify.rounding import box_outward
from auditor.verify.smooth_relaxation import curve_range


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Bounds between which the real function's values at one input lie.

    Attributes:
        lower: Of the outputs, [outputs].
        upper: The same from above.
        before: Lower and upper bounds of each layer's pre-activations, [neurons] each.
    """

    lower: Float64
    upper: Float64
    before: tuple[tuple[Float64, Float64], ...]

    def follows(self, phases: Sequence[Int8]) -> bool:
        """Whether the pre-activations certainly show the phases, borders included."""
        for (low, high), phase in zip(self.before, phases, strict=False):
            count = len(phase)
            missed = ((phase > 0) & ~(low[:count] >= 0)) | ((phase < 0) & ~(high[:count] <= 0))
            if missed.any():
                return False
        return True


def enclose_values(network: GraphNetwork, inputs: Sequence[Fraction]) -> Enclosure:
    """Enclose every value of a network at one input.

    Args:
        network: The network.
        inputs: One flat input, [inputs].
    """
    low, high = box_outward(inputs, inputs)
    net = BoundedNetwork.over_box(network, low, high)
    with torch.no_grad():
        box = torch.from_numpy(low)[None], torch.from_numpy(high)[None]
        bounds = list(interval_bounds(net, box))
        curve = network.layers[-1].curve
        if curve is not None:
            bounds[-1] = curve_range(curve, *bounds[-1])
    before = tuple((lower[0].numpy(), upper[0].numpy()) for lower, upper in bounds)
    lower, upper = before[-1]
    if network.layers[-1].relu:
        lower, upper = np.maximum(lower, 0.0), np.maximum(upper, 0.0)
    return Enclosure(lower, upper, before)


def enclose_outputs(network: GraphNetwork, inputs: Sequence[Fraction]) -> tuple[Float64, Float64]:
    """Bounds between which every output of the real function lies, two arrays [outputs].

    Args:
        network: The network.
        inputs: One flat input, [inputs].
    """
    found = enclose_values(network, inputs)
    return found.lower, found.upper


def worst_margin(
    case: UnsafeCase, lower: Float64, upper: Float64, inputs: Sequence[Fraction] = ()
) -> tuple[bool, float]:
    """Whether all outputs between the bounds violate a case, and by how much at least.

    Args:
        case: The case.
        lower: Bounds of the outputs, [outputs].
        upper: The same from above.
        inputs: The exact input, [inputs]; needed where a row speaks of inputs.
    """
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        return False, -np.inf
    low = [Fraction(value) for value in lower.tolist()]
    high = [Fraction(value) for value in upper.tolist()]
    margin, violates = Fraction(0), True
    for number, row in enumerate(case.rows):
        # Each half-space has a worst corner of its own.
        corner = [
            end if factor > 0 else start
            for factor, start, end in zip(row.coefficients, low, high, strict=True)
        ]
        depth = -row.excess(corner, inputs)
        margin = depth if number == 0 else min(margin, depth)
        violates = violates and row.contains(corner, inputs)
    return violates, float(margin)
