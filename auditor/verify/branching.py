"""Which neuron's phase to fix next: what each promises to the bound, without trying it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from auditor.verify.bounds import LayerBounds, ReluRelaxation
from auditor.verify.slope_search import Improved

# Weight of what a split gains through the bounds of later layers: a first-order guess, and
# measured on mnist_fc to be worth about a third of a gain in the bound itself.
THROUGH_BOUNDS = 0.3


class Influence(NamedTuple):
    """Forms that bounded neurons of one layer on every node.

    Attributes:
        neurons: The neurons, [neurons].
        at_layers: Coefficients over the activations of each earlier layer, of the forms of z
            and then of -z, [nodes, 2 neurons, neurons of that layer].
    """

    neurons: Tensor
    at_layers: tuple[Tensor, ...]


def scores_in_bound(relaxations: Sequence[ReluRelaxation], improved: Improved) -> Tensor:
    """What fixing each neuron's phase promises to one row, [nodes, neurons]; -inf where fixed.

    With coefficient c on the activation and its linear piece `d z + e` at the bound's
    minimiser, the inactive phase gains `-c (d z + e)` and the active one
    `c ((1 - d) z - e)`; the score favours neurons where both gain, in the spirit of BaBSR
    (Bunel et al. 2020, 1909.06588).
    """
    scores = []
    for k, relaxation in enumerate(relaxations):
        if not relaxation.unstable.shape[-1]:
            continue
        c, z = improved.forms.at_layers[k][:, 0], improved.values[k][:, 0]
        slope = torch.where(c >= 0, improved.multipliers.slopes[k][:, 0], relaxation.upper_slope)
        offset = torch.where(c >= 0, torch.zeros_like(c), relaxation.upper_intercept)
        off, on = -c * (slope * z + offset), c * ((1.0 - slope) * z - offset)
        score = torch.minimum(off, on).clamp(min=0.0) + 0.05 * torch.maximum(off, on)
        score = score + 1e-9 * relaxation.upper_intercept
        scores.append(score.nan_to_num(0.0).masked_fill(~relaxation.unstable, -torch.inf))
    nothing = improved.lower.new_full((len(improved.lower), 1), -torch.inf)
    return torch.cat(scores, dim=1) if scores else nothing


def scores_through_bounds(
    bounds: Sequence[LayerBounds],
    relaxations: Sequence[ReluRelaxation],
    improved: Improved,
    is_open: Tensor,
    influences: Sequence[Influence | None],
) -> Tensor:
    """What fixing each neuron's phase promises to open rows, [nodes, neurons]; -inf where fixed.

    A relaxation costs a bound `max(-c, 0) e` above, and below what its line misses at the
    minimiser. Fixing a neuron saves that; and it narrows later neurons, whose chords then
    cost less: with `e = -u l / (u - l)`, `de/du = (l / (u - l))^2` and
    `de/dl = -(u / (u - l))^2`. Both savings are propagated from the last layer to the first.

    Args:
        bounds: Of every layer's pre-activations, [nodes, neurons] pairs.
        relaxations: One per layer.
        improved: Bounds of all rows, [nodes, rows].
        is_open: Rows that are still to be refuted, [nodes, rows].
        influences: What bounded each layer's neurons, if anything did.
    """
    count = len(relaxations)
    weight = is_open.to(improved.lower.dtype)[:, :, None]
    scores: list[Tensor] = []
    from_lower: list[Tensor] = []
    from_upper: list[Tensor] = []
    for k, relaxation in enumerate(relaxations):
        width = relaxation.unstable.shape[-1]
        c, z = improved.forms.at_layers[k][:, :, :width], improved.values[k][:, :, :width]
        unstable = relaxation.unstable.to(c.dtype)
        above, below = (-c).clamp(min=0.0), c.clamp(min=0.0)
        missed = below * (z.clamp(min=0.0) - improved.multipliers.slopes[k] * z)
        cost = above * relaxation.upper_intercept[:, None, :] + missed
        scores.append((cost * weight).sum(dim=1) * unstable)
        pull = (above * weight).sum(dim=1) * unstable
        low, high = (end[:, :width] for end in bounds[k])
        span = (high - low).clamp(min=1e-12)
        from_lower.append(pull * (high / span) ** 2)
        from_upper.append(pull * (low / span) ** 2)
    for k in range(count - 1, 0, -1):
        influence = influences[k]
        if influence is None:
            continue
        sides = [from_lower[k][:, influence.neurons], from_upper[k][:, influence.neurons]]
        pull = torch.cat(sides, dim=1)[:, None, :]
        for j in range(k):
            relaxation, width = relaxations[j], relaxations[j].unstable.shape[-1]
            if not width:
                continue
            unstable = relaxation.unstable.to(pull.dtype)
            form = influence.at_layers[j]
            above = (pull @ (-form).clamp(min=0.0))[:, 0] * unstable
            below = (pull @ form.clamp(min=0.0))[:, 0] * unstable
            low, high = bounds[j]
            loss = 0.5 * torch.minimum(-low, high).clamp(min=0.0)
            gain = above * relaxation.upper_intercept + below * loss
            span = (high - low).clamp(min=1e-12)
            scores[j] = scores[j] + THROUGH_BOUNDS * gain
            from_lower[j] = from_lower[j] + THROUGH_BOUNDS * above * (high / span) ** 2
            from_upper[j] = from_upper[j] + THROUGH_BOUNDS * above * (low / span) ** 2
    unstable_all = torch.cat([relaxation.unstable for relaxation in relaxations], dim=1)
    return torch.cat(scores, dim=1).nan_to_num(0.0).masked_fill(~unstable_all, -torch.inf)
