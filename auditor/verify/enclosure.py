"""Rigorous enclosures of a graph's outputs at one input, in place of exact arithmetic.

Exact fractions of a convolutional network grow beyond use. Float64 intervals with error
terms say the same where the margin is larger than their width, and nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch

from auditor.verify.bounds import BoundedNetwork, interval_bounds
from auditor.verify.network import GraphNetwork
from auditor.verify.network.chain import Float64
from auditor.verify.property import UnsafeCase
from auditor.verify.rounding import box_outward
from auditor.verify.smooth_relaxation import curve_range


def enclose_outputs(network: GraphNetwork, inputs: Sequence[Fraction]) -> tuple[Float64, Float64]:
    """Bounds between which every output of the real function lies, two arrays [outputs].

    Args:
        network: The network.
        inputs: One flat input, [inputs].
    """
    low, high = box_outward(inputs, inputs)
    net = BoundedNetwork.over_box(network, low, high)
    with torch.no_grad():
        box = torch.from_numpy(low)[None], torch.from_numpy(high)[None]
        lower, upper = interval_bounds(net, box)[-1]
        curve = network.layers[-1].curve
        if curve is not None:
            lower, upper = curve_range(curve, lower, upper)
    ends = lower[0].numpy(), upper[0].numpy()
    if network.layers[-1].relu:
        return np.maximum(ends[0], 0.0), np.maximum(ends[1], 0.0)
    return ends


def worst_margin(case: UnsafeCase, lower: Float64, upper: Float64) -> tuple[bool, float]:
    """Whether all outputs between the bounds violate a case, and by how much at least."""
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
        depth = -row.excess(corner)
        margin = depth if number == 0 else min(margin, depth)
        violates = violates and row.contains(corner)
    return violates, float(margin)
