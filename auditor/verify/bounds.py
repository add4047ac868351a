"""Batched linear bounds of a network in torch float64, with rounding accounted for.

Interval bounds, and backward linear bounds (Zhang et al. 2018, CROWN, 1811.00866) with
free lower slopes (Xu et al. 2021, alpha-CROWN, 2011.13824) and multipliers of fixed
phases (Wang et al. 2021, beta-CROWN, 2103.06624).

Soundness over the reals is argued as in `box_kernel`: each form is defined by its
floats; a pass sums `|lam| . magnitude` along the way, where `magnitude[k]` bounds
`|W_k| |h| + |b_k|` over the box; with N operations a term can pass through, the true
bound is at least `constant - gamma_N * sum`, in any order of summation. Slopes are
floats in [0, 1] and products with them round towards zero or not past it, intercepts
are rounded away from zero, and a rounded multiplier is still a non-negative one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from auditor.verify.magnitudes import interval_magnitudes
from auditor.verify.network import Network
from auditor.verify.network.chain import Float64
from auditor.verify.rounding import UNIT_ROUNDOFF, error_factor


@dataclass(frozen=True)
class ReluRelaxation:
    """Linear bounds of a layer's activations; all tensors [boxes, neurons].

    `lower_slope * z <= max(z, 0) <= upper_slope * z + upper_intercept` on the interval.
    """

    lower_slope: Tensor
    upper_slope: Tensor
    upper_intercept: Tensor
    unstable: Tensor


def relax_relu(lower: Tensor, upper: Tensor) -> ReluRelaxation:
    """Linear bounds of max(z, 0) over lower <= z <= upper, neuron by neuron.

    Args:
        lower: Pre-activation lower bounds, [boxes, neurons], float64.
        upper: Upper bounds, same shape; lower <= upper.

    Returns:
        Slopes, intercepts and which neurons are unstable. The lower slope is the
        adaptive choice; any other in [0, 1] is sound for an unstable neuron.

    Source: Zhang et al. 2018 (CROWN), eq. 5.
    """
    unstable = (lower < 0) & (upper > 0)
    active = (lower >= 0).to(lower.dtype)
    slope = torch.where(unstable, (upper / (upper - lower)).clamp(0.0, 1.0), active)
    # The line must lie above max(z, 0) at both ends, with slack for every rounding.
    reach = torch.maximum(upper, -lower)
    above = torch.maximum(-slope * lower, (1.0 - slope) * upper)
    above = above + 8.0 * UNIT_ROUNDOFF * reach + 1e-300
    intercept = torch.where(unstable, above, torch.zeros_like(above))
    adaptive = torch.where(unstable, (upper > -lower).to(lower.dtype), active)
    return ReluRelaxation(adaptive, slope, intercept, unstable)


def linear_activation(like: Tensor) -> ReluRelaxation:
    """The relaxation of a layer without ReLU, [boxes, neurons]: the identity, exactly."""
    ones, zeros = torch.ones_like(like), torch.zeros_like(like)
    return ReluRelaxation(ones, ones, zeros, zeros.bool())


@dataclass(frozen=True)
class BoundedNetwork:
    """A network over one box, as tensors, with what the error terms need.

    Attributes:
        weights: [outputs, inputs] of each layer; the last may be property rows.
        biases: [outputs] of each layer.
        relus: Whether a ReLU follows each layer.
        magnitudes: Bounds of `|W| |h| + |b|` over the box, [outputs] of each layer.
        factor: `gamma_N` of one backward pass.
        floor: What underflow can lose in one pass.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    relus: tuple[bool, ...]
    magnitudes: tuple[Tensor, ...]
    factor: float
    floor: float

    @classmethod
    def over_box(
        cls,
        network: Network,
        lower: Float64,
        upper: Float64,
        *,
        rows: tuple[Float64, Float64] | None = None,
        device: str = "cpu",
    ) -> BoundedNetwork:
        """Prepare a network for bounds over sub-boxes of [lower, upper].

        Args:
            network: The network.
            lower: Lower ends of a box that contains every box asked about, [inputs].
            upper: Upper ends.
            rows: Rows and bounds (C, d) appended as a last layer `C y - d`; entries of C
                may be rounded once.
            device: Torch device.
        """
        sizes = interval_magnitudes(network, lower, upper)
        arrays = [(layer.weight, layer.bias) for layer in network.layers]
        relus = [layer.relu for layer in network.layers]
        sums = list(sizes.sums)
        if rows is not None:
            arrays.append((rows[0], -rows[1]))
            relus.append(False)
            with np.errstate(over="ignore", invalid="ignore"):
                size = np.abs(rows[0]) @ sizes.hidden[-1] + np.abs(rows[1])
            sums.append(size * (1.0 + 1e-12))
        widths = [arrays[0][0].shape[1], *(len(bias) for _, bias in arrays)]

        def tensor(array: Float64) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        return cls(
            weights=tuple(tensor(weight) for weight, _ in arrays),
            biases=tuple(tensor(bias) for _, bias in arrays),
            relus=tuple(relus),
            magnitudes=tuple(tensor(size) for size in sums),
            factor=error_factor(sum(3 * width + 16 for width in widths) + 4 * widths[0] + 256),
            floor=sizes.underflow,
        )


@dataclass(frozen=True)
class LinearForms:
    """Linear lower bounds of quantities over the input.

    Attributes:
        coefficients: [boxes, rows, inputs].
        constant: [boxes, rows], rounding already subtracted.
        lower: Certified lower bound over the box, [boxes, rows].
        at_layers: Coefficients over each hidden layer's activations, if recorded.
    """

    coefficients: Tensor
    constant: Tensor
    lower: Tensor
    at_layers: tuple[Tensor, ...]


def backward_bounds(
    net: BoundedNetwork,
    layer: int,
    start: Tensor,
    relaxations: Sequence[ReluRelaxation],
    box: tuple[Tensor, Tensor],
    *,
    slopes: Sequence[Tensor | None] | None = None,
    multipliers: Sequence[Tensor | None] | None = None,
) -> LinearForms:
    """Certified linear lower bounds of `start . z_layer` over boxes.

    Args:
        net: The network; every box lies in the one it was prepared for.
        layer: Index of the layer whose pre-activation z is bounded.
        start: Coefficients over z, [boxes, rows, neurons].
        relaxations: One per layer before `layer`.
        box: Lower and upper ends, [boxes, inputs] each.
        slopes: Lower slopes in [0, 1] per layer, [boxes, rows, neurons], or the
            relaxation's own where None. Used for unstable neurons only.
        multipliers: `beta * sigma` per layer, same shape: with phase sigma in {-1, 1}
            fixed, sigma * z >= 0 holds there and beta >= 0.

    Returns:
        The forms; `at_layers[k]` are coefficients over the activations of layer k.
    """
    forms = start
    constant, size = start.new_zeros(start.shape[:2]), start.new_zeros(start.shape[:2])
    recorded: list[Tensor] = []
    for k in range(layer, -1, -1):
        constant = constant + forms @ net.biases[k]
        size = size + forms.abs() @ net.magnitudes[k]
        forms = forms @ net.weights[k]
        if k == 0:
            break
        before = relaxations[k - 1]
        recorded.append(forms)
        negative, positive = forms.clamp(max=0.0), forms.clamp(min=0.0)
        slope = before.lower_slope[:, None, :]
        chosen = slopes[k - 1] if slopes is not None else None
        if chosen is not None:
            slope = torch.where(before.unstable[:, None, :], chosen, slope)
        part = (negative * before.upper_intercept[:, None, :]).sum(dim=-1)
        constant, size = constant + part, size - part
        size = size + forms.abs() @ net.magnitudes[k - 1]
        forms = positive * slope + negative * before.upper_slope[:, None, :]
        extra = multipliers[k - 1] if multipliers is not None else None
        if extra is not None:
            forms = forms - extra
    low, high = box[0][:, None, :], box[1][:, None, :]
    value = (forms.clamp(min=0.0) * low + forms.clamp(max=0.0) * high).sum(dim=-1)
    size = size + (forms.abs() * torch.maximum(low.abs(), high.abs())).sum(dim=-1)
    constant = constant - net.factor * size - net.floor
    return LinearForms(forms, constant, constant + value - net.factor * size, tuple(recorded[::-1]))


LayerBounds = tuple[Tensor, Tensor]


def interval_bounds(net: BoundedNetwork, box: tuple[Tensor, Tensor]) -> list[LayerBounds]:
    """Interval bounds of every layer's pre-activations, [boxes, neurons] pairs.

    With centre c and radius r: `W c + b -+ |W| r`, minus and plus the rounding of both.
    """
    low, high = box
    bounds = []
    for k, weight in enumerate(net.weights):
        center, radius = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        slack = 4.0 * net.factor * net.magnitudes[k] + net.floor
        middle, spread = center @ weight.T + net.biases[k], radius @ weight.abs().T
        low, high = middle - spread - slack, middle + spread + slack
        bounds.append((low, high))
        if net.relus[k]:
            low, high = low.clamp(min=0.0), high.clamp(min=0.0)
    return bounds


def relaxation_of(net: BoundedNetwork, layer: int, bounds: LayerBounds) -> ReluRelaxation:
    """The relaxation of one layer under its bounds."""
    if net.relus[layer]:
        return relax_relu(*bounds)
    return linear_activation(bounds[0])


def layer_bounds(net: BoundedNetwork, box: tuple[Tensor, Tensor]) -> list[LayerBounds]:
    """Backward bounds of every layer's pre-activations, never wider than intervals.

    Args:
        net: The network.
        box: Lower and upper ends, [boxes, inputs] each.

    Returns:
        Pairs (lower, upper), [boxes, neurons], one per layer.
    """
    bounds: list[LayerBounds] = []
    relaxations: list[ReluRelaxation] = []
    for k, (low, high) in enumerate(interval_bounds(net, box)):
        lower, upper = low, high
        if k > 0:
            eye = torch.eye(net.weights[k].shape[0], dtype=low.dtype, device=low.device)
            start = torch.cat([eye, -eye]).expand(low.shape[0], -1, -1)
            both = backward_bounds(net, k, start, relaxations, box).lower
            count = eye.shape[0]
            lower = torch.fmax(low, both[:, :count])
            upper = torch.fmin(high, -both[:, count:])
        bounds.append((lower, upper))
        relaxations.append(relaxation_of(net, k, bounds[-1]))
    return bounds
