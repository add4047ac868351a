"""Shrinking boxes to where a linear condition can hold, batched and rounded outward.

On a node of a search only inputs with `coefficients . x + constant <= 0` matter; each
side is moved to where the others at their best still allow it. The torch twin of the
contraction in `box_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from auditor.verify.bounds import BoundedNetwork, one_hot
from auditor.verify.network.graph import INPUT
from auditor.verify.rounding import UNIT_ROUNDOFF

Boxes = tuple[Tensor, Tensor]
# Rows of the inputs' coefficients that are held at a time.
NEURONS: Final = 512


def contract_boxes(boxes: Boxes, coefficients: Tensor, constant: Tensor) -> Boxes:
    """Boxes without parts in which `coefficients . x + constant > 0`.

    Args:
        boxes: Lower and upper ends, [boxes, inputs] each.
        coefficients: [boxes, inputs].
        constant: [boxes], with the rounding of every sum over the box subtracted, as in
            `LinearForms.constant`.

    Returns:
        Lower and upper ends; lower > upper somewhere where no input is left.
    """
    low, high = boxes
    smallest = torch.where(coefficients > 0, coefficients * low, coefficients * high)
    rest = (constant + smallest.sum(dim=-1))[:, None] - smallest
    limit = -rest / coefficients
    # The division is rounded outward; a NaN (0 / 0) leaves the side as it is.
    slack = 8.0 * UNIT_ROUNDOFF * limit.abs() + 1e-300
    return (
        torch.where(coefficients < 0, torch.fmax(low, limit - slack), low),
        torch.where(coefficients > 0, torch.fmin(high, limit + slack), high),
    )


def contract_to_phases(net: BoundedNetwork, phases: Sequence[Tensor], box: Boxes) -> Boxes:
    """A box without parts where layers that read the inputs alone cannot show their phases.

    Args:
        net: The network, over a box that contains this one.
        phases: What is asked of each layer's neurons, [1, neurons]: 1, -1, or 0 for nothing.
        box: Lower and upper ends, [1, inputs] each.

    Returns:
        Lower and upper ends; lower > upper somewhere where no input shows them.
    """
    for layer, (terms, asked) in enumerate(zip(net.terms, phases, strict=False)):
        fixed = torch.nonzero(asked[0]).ravel()
        if not len(fixed) or [term.source for term in terms] != [INPUT]:
            continue
        error = net.factor * net.magnitudes[layer] + net.floor
        for some in torch.split(fixed, NEURONS):
            sign = asked[0, some].to(box[0].dtype)
            rows = -sign[:, None] * terms[0].map.pull_back(one_hot(some, net.biases[layer]))
            constant = -sign * net.biases[layer][some] - error[some]
            for row, offset in zip(rows, constant, strict=True):
                box = contract_boxes(box, row[None], offset[None])
    return box
