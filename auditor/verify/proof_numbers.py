"""Torch numbers as a certificate can hold them: float32 bounds, slopes in 255 steps."""

from __future__ import annotations

import torch
from torch import Tensor

from auditor.verify.proof import SLOPE_UNITS, Bytes


def rounded_down(values: Tensor) -> Tensor:
    """Float32 numbers at most as large, kept as float64."""
    nearest = values.to(torch.float32)
    below = torch.nextafter(nearest, nearest.new_full((), -torch.inf))
    return torch.where(nearest.to(values.dtype) > values, below, nearest).to(values.dtype)


def rounded_slopes(slopes: Tensor) -> Tensor:
    """Slopes at the nearest multiple of 1/255."""
    return torch.round(slopes * SLOPE_UNITS) / SLOPE_UNITS


def as_bytes(slopes: Tensor) -> Bytes:
    """Rounded slopes in units of 1/255."""
    units: Bytes = torch.round(slopes * SLOPE_UNITS).to(torch.uint8).cpu().numpy()
    return units
