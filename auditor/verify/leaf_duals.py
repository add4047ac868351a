"""Refuting a leaf in which every phase is fixed, by the duals of a linear program."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auditor.verify.bounds import BoundedNetwork, ReluRelaxation, backward_bounds, one_hot
from auditor.verify.leaf_program import least_violation
from auditor.verify.network.chain import Float64
from auditor.verify.slope_search import Improved, Multipliers, improve_bounds


def bound_leaf(
    net: BoundedNetwork,
    rows: Tensor,
    relaxations: Sequence[ReluRelaxation],
    phases: Sequence[Tensor],
    box: tuple[Tensor, Tensor],
    slopes: Sequence[Tensor],
    *,
    rounded: bool,
) -> tuple[Improved, Float64] | None:
    """Bound the best mixture of rows on one leaf, and the input that violates them least.

    Args:
        net: The network, with property rows as its last layer.
        rows: Coefficients over the last layer, [rows, outputs]; all of them must be <= 0 at
            a violation.
        relaxations: One per layer before the last, of one node.
        phases: Fixed phases in {-1, 0, 1}, [1, neurons] per layer.
        box: Lower and upper ends, [1, inputs].
        slopes: Lower slopes, [1, 1, neurons] per layer.
        rounded: Whether to use only multipliers that a certificate can hold.

    Returns:
        The bound of one row, [1, 1], with its multipliers, and the input; None when the
        solver gave up.
    """
    layer = len(net.terms) - 1
    found = backward_bounds(net, layer, rows[None], relaxations, box)
    forms, constants = [found.coefficients[0]], [found.constant[0]]
    places: list[tuple[int, Tensor]] = []
    for k, phase in enumerate(phases):
        neurons = torch.nonzero(phase[0]).ravel()
        if not len(neurons):
            continue
        start = one_hot(neurons, net.biases[k])[None]
        found = backward_bounds(net, k, start, relaxations, box)
        sign = phase[0, neurons].to(rows.dtype)
        forms.append(-sign[:, None] * found.coefficients[0])
        constants.append(-sign * found.constant[0])
        places.append((k, neurons))
    answer = least_violation(
        torch.cat(forms).cpu().numpy(),
        torch.cat(constants).cpu().numpy(),
        box[0][0].cpu().numpy(),
        box[1][0].cpu().numpy(),
    )
    if answer is None:
        return None
    duals = torch.from_numpy(answer.multipliers).to(rows.device)
    betas = [torch.zeros_like(each) for each in slopes]
    used = len(rows)
    for k, neurons in places:
        betas[k][0, 0, neurons] = duals[used : used + len(neurons)]
        used += len(neurons)
    weights = (duals[: len(rows)] @ rows)[None, None, :]
    start_at = Multipliers([each.clone() for each in slopes], betas, weights)
    bound = improve_bounds(net, layer, relaxations, phases, box, start_at, 1, rounded=rounded)
    return bound, answer.point
