"""Which arithmetic a verdict speaks of: the reals, or float32 as runtimes execute it.

A float32 layer computes `fl(W h + b)`. Whatever the order of summation, with or without
fused multiply-adds, each term passes at most n + 1 roundings, so the result differs from
the real sum by at most `gamma_(n+1) (|W| |h| + |b|)` plus what underflow can add
(Higham 2002, lemma 3.1 and section 4.2). The executed network is therefore a member of
the family of real networks with that much noise at every pre-activation; ReLUs are exact.
Proving a property of the family proves it of every execution. The bound does not cover
TF32, half precision, Winograd convolutions and other algebra than sums of products.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import AffineLayer, Float64

UNIT_ROUNDOFF_32 = 2.0**-24
LARGEST_32 = float(np.finfo(np.float32).max)
# Roundings beyond those of the sum: Gemm's alpha and beta, and a bias added apart.
_EXTRA_ROUNDINGS = 4


class Semantics(StrEnum):
    """The arithmetic of a verdict."""

    REAL = "real"
    FLOAT32 = "float32"


@dataclass(frozen=True, eq=False)
class Noise:
    """How far an executed pre-activation may be from the real sum of its inputs.

    `|error| <= relative * (|W| |h| + |b|) + absolute`, [outputs].
    """

    relative: float
    absolute: Float64


def execution_noise(layer: AffineLayer, hidden: Float64) -> Noise:
    """The float32 noise of a layer whose inputs are at most `hidden` in absolute value.

    Zero weights add exact zeros, so only the others count.

    Args:
        layer: The layer.
        hidden: Bounds of its inputs' absolute values, [inputs].
    """
    absolute = np.abs(layer.weight)
    count = int(np.count_nonzero(layer.weight, axis=1).max(initial=0)) + _EXTRA_ROUNDINGS
    product = count * UNIT_ROUNDOFF_32
    relative = 1.001 * product / (1.0 - product) if product < 0.5 else np.inf
    # Also with flush to zero; a factor 2 is left for growth in later roundings.
    tiny = 2.0**-125 * (2.0 * count + 2.0 + absolute.sum(axis=1) + float(hidden.sum()))
    return Noise(relative, 1.001 * tiny)


def why_not_float32(network: Network | GraphNetwork) -> str:
    """Why nothing can be proved of a network's float32 execution; empty if it can."""
    if not isinstance(network, Network):
        if network.curved_layers:
            return (
                f"float32 semantics is not proved for {network.curved_layers[0].curve}: no "
                "standard says how accurately runtimes compute it"
            )
        return (
            "float32 semantics is proved for chains of dense layers; runtimes may compute "
            "convolutions by other algebra"
        )
    for number, layer in enumerate(network.layers):
        for values in (layer.weight, layer.bias):
            with np.errstate(over="ignore"):
                if not np.array_equal(values, values.astype(np.float32)):
                    return f"layer {number} holds numbers that are not float32"
        if layer.joined:
            return (
                f"layer {number} joins several of the file's operations, which are rounded "
                "one by one as executed"
            )
    return ""
