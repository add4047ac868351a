"""Shrinking boxes to where a linear condition can hold, batched and rounded outward.

On a node of a search only inputs with `coefficients . x + constant <= 0` matter; each
side is moved to where the others at their best still allow it. The torch twin of the
contraction in `box_kernel`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from auditor.verify.rounding import UNIT_ROUNDOFF

Boxes = tuple[Tensor, Tensor]


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
