"""Improving backward bounds: slopes, phase multipliers and row weights by Polyak steps.

The bound is concave in slopes, multipliers and row weights separately and sound for all
admissible values, so any improvement is kept. The supergradient needs no autograd: it
is the value of each neuron at the bound's minimiser, pushed through the linear pieces
just used. One step aims slightly above zero: `1.2 |bound| / |g|^2` (Polyak 1969).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.verify.bounds import (
    BoundedNetwork,
    LinearForms,
    ReluRelaxation,
    backward_bounds,
)
from auditor.verify.network.graph import INPUT
from auditor.verify.proof_numbers import rounded_slopes


@dataclass
class Multipliers:
    """What is free in a bound; everything [boxes, rows, neurons] per hidden layer.

    Attributes:
        slopes: Lower slopes in [0, 1].
        betas: Non-negative multipliers of fixed phases.
        weights: Coefficients over the bounded layer, [boxes, rows, neurons].
    """

    slopes: list[Tensor]
    betas: list[Tensor]
    weights: Tensor

    def copy(self) -> Multipliers:
        """An independent copy."""
        return Multipliers(
            [slope.clone() for slope in self.slopes],
            [beta.clone() for beta in self.betas],
            self.weights.clone(),
        )

    def pick(self, boxes: Tensor) -> Multipliers:
        """Those of some of the boxes."""
        return Multipliers(
            [slope[boxes] for slope in self.slopes],
            [beta[boxes] for beta in self.betas],
            self.weights[boxes],
        )

    def rounded(self) -> Multipliers:
        """These as numbers that a certificate can hold."""
        return Multipliers(
            [rounded_slopes(slope) for slope in self.slopes],
            [beta.to(torch.float32).to(beta.dtype) for beta in self.betas],
            self.weights,
        )

    def replace_where(self, better: Tensor, other: Multipliers) -> None:
        """Take another's values for some (box, row) pairs, in place."""
        pick = better[:, :, None]
        for mine, theirs in ((self.slopes, other.slopes), (self.betas, other.betas)):
            for k, value in enumerate(theirs):
                mine[k] = torch.where(pick, value, mine[k])
        self.weights = torch.where(pick, other.weights, self.weights)


@dataclass(frozen=True)
class Improved:
    """The best bounds found and where they are attained.

    Attributes:
        lower: Certified lower bounds, [boxes, rows].
        multipliers: What gives them.
        points: Minimisers of the last forms, [boxes, rows, inputs].
        values: Pre-activations at the last points through the linear pieces, per layer.
        forms: The last forms.
        last: What gives the last forms.
    """

    lower: Tensor
    multipliers: Multipliers
    points: Tensor
    values: tuple[Tensor, ...]
    forms: LinearForms
    last: Multipliers


def starting_multipliers(relaxations: Sequence[ReluRelaxation], weights: Tensor) -> Multipliers:
    """Adaptive slopes, no phase multipliers."""
    boxes, rows = weights.shape[:2]
    slopes = [r.lower_slope[:, None, :].expand(boxes, rows, -1).clone() for r in relaxations]
    return Multipliers(slopes, [torch.zeros_like(slope) for slope in slopes], weights.clone())


def improve_bounds(
    net: BoundedNetwork,
    layer: int,
    relaxations: Sequence[ReluRelaxation],
    phases: Sequence[Tensor] | None,
    box: tuple[Tensor, Tensor],
    start: Multipliers,
    steps: int,
    *,
    mix_rows: bool = False,
    relaxed_target: float = 1.2,
    rounded: bool = False,
) -> Improved:
    """Raise lower bounds of `weights . z_layer` by Polyak steps.

    Args:
        net: The network.
        layer: The layer that is bounded.
        relaxations: One per layer before it.
        phases: Fixed phases in {-1, 0, 1} per layer, [boxes, neurons], or None.
        box: Lower and upper ends, [boxes, inputs].
        start: Where to start; not changed.
        steps: Passes; 1 only bounds.
        mix_rows: Whether the weights themselves may move within the simplex.
        relaxed_target: Step length relative to the distance to zero.
        rounded: Whether bounds may use only multipliers that a certificate can hold.
    """
    current = start.copy()
    best = current.rounded() if rounded else start.copy()
    signs = None if phases is None else [p[:, None, :].to(box[0].dtype) for p in phases[:layer]]
    highest: Tensor | None = None
    for step in range(steps):
        used = current.rounded() if rounded else current
        extra = None if signs is None else [
            b * s for b, s in zip(used.betas, signs, strict=True)
        ]  # fmt: skip
        forms = backward_bounds(
            net, layer, used.weights, relaxations, box, slopes=used.slopes, multipliers=extra,
        )  # fmt: skip
        if highest is None:
            highest = forms.lower
        else:
            better = forms.lower > highest
            highest = torch.where(better, forms.lower, highest)
            best.replace_where(better, used)
        points = torch.where(forms.coefficients > 0, box[0][:, None, :], box[1][:, None, :])
        values = push_through(net, layer, relaxations, used.slopes, forms, points)
        if step == steps - 1 or bool((highest > 0).all()):
            return Improved(highest, best, points, values, forms, used)
        _step(current, relaxations, signs, forms, values, mix_rows, relaxed_target)
    raise ValueError("at least one step is needed")


def push_through(
    net: BoundedNetwork,
    layer: int,
    relaxations: Sequence[ReluRelaxation],
    slopes: Sequence[Tensor],
    forms: LinearForms,
    points: Tensor,
) -> tuple[Tensor, ...]:
    """Pre-activations at points, through the linear pieces that the forms used.

    Returns:
        One tensor per layer up to and with `layer`, [boxes, rows, neurons].
    """
    hidden: dict[int, Tensor] = {INPUT: points}
    values = []
    for k in range(layer + 1):
        value = net.affine(k, hidden)
        values.append(value)
        if k == layer or not net.bends(k):
            hidden[k] = value
            continue
        relaxation = relaxations[k]
        free = relaxation.unstable[:, None, :]
        below = torch.where(free, slopes[k], relaxation.lower_slope[:, None, :]) * value
        above = relaxation.upper_slope[:, None, :] * value + relaxation.upper_intercept[:, None, :]
        if relaxation.lower_intercept is not None:
            below = below + relaxation.lower_intercept[:, None, :]
        hidden[k] = torch.where(forms.at_layers[k] >= 0, below, above)
    return tuple(values)


def _step(
    current: Multipliers,
    relaxations: Sequence[ReluRelaxation],
    signs: Sequence[Tensor] | None,
    forms: LinearForms,
    values: Sequence[Tensor],
    mix_rows: bool,
    relaxed_target: float,
) -> None:
    """One Polyak step on everything that is free, in place.

    Components at the end of their range that would leave it take no part.
    """
    slope_gains: dict[int, Tensor] = {}
    beta_gains: dict[int, Tensor] = {}
    norm = torch.zeros_like(forms.lower)
    for k, relaxation in enumerate(relaxations[: len(current.slopes)]):
        slope = current.slopes[k]
        if not slope.shape[-1]:
            continue  # a layer without ReLU has nothing to choose
        gain = forms.at_layers[k].clamp(min=0.0) * values[k]
        blocked = ((gain > 0) & (slope >= 1.0)) | ((gain < 0) & (slope <= 0.0))
        gain = gain.masked_fill(blocked | ~relaxation.unstable[:, None, :], 0.0)
        slope_gains[k] = gain
        norm = norm + (gain * gain).sum(dim=-1)
        if signs is not None:
            gain = -signs[k] * values[k]
            gain = gain.masked_fill((gain < 0) & (current.betas[k] <= 0.0), 0.0)
            beta_gains[k] = gain
            norm = norm + (gain * gain).sum(dim=-1)
    row_gain: Tensor | None = None
    if mix_rows:
        row_gain = _row_gain(current.weights, values[-1])
        norm = norm + (row_gain * row_gain).sum(dim=-1)
    length = relaxed_target * forms.lower.abs() / norm
    length = torch.where(norm > 0, length, torch.zeros_like(length))[:, :, None]
    for k, gain in slope_gains.items():
        current.slopes[k] = (current.slopes[k] + length * gain).clamp(0.0, 1.0)
    for k, gain in beta_gains.items():
        current.betas[k] = (current.betas[k] + length * gain).clamp(min=0.0)
    if row_gain is not None:
        current.weights = project_to_simplex(current.weights + length * row_gain)


def _row_gain(weights: Tensor, values: Tensor) -> Tensor:
    """Direction of the row weights within the simplex; rows out of play stay put."""
    mixture = (weights * values).sum(dim=-1, keepdim=True)
    in_play = ((weights > 0) | (values > mixture)).to(values.dtype)
    mean = (values * in_play).sum(dim=-1, keepdim=True) / in_play.sum(dim=-1, keepdim=True)
    return (values - mean) * in_play


def project_to_simplex(weights: Tensor) -> Tensor:
    """Nearest point of the probability simplex along the last axis.

    Source: Held, Wolfe, Crowder 1974.
    """
    ordered = weights.sort(dim=-1, descending=True).values
    places = torch.arange(1, weights.shape[-1] + 1, dtype=weights.dtype, device=weights.device)
    thresholds = (ordered.cumsum(dim=-1) - 1.0) / places
    used = (ordered > thresholds).sum(dim=-1, keepdim=True).clamp(min=1)
    return (weights - thresholds.gather(-1, used - 1)).clamp(min=0.0)
