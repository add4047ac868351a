"""Boxes that wait in a search over inputs, and how a split makes smaller ones of them.

A split halves an input's interval, or cuts the range of one neuron's pre-activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from auditor.verify.bounds import BoundedNetwork, LayerBounds
from auditor.verify.network.curve import Curve

STRICT = 1e-300


@dataclass(frozen=True)
class WaitingBoxes:
    """Boxes to be looked at; the first axis runs over boxes.

    Attributes:
        lower: Lower ends, [boxes, inputs].
        upper: Upper ends.
        cut_lower: Least pre-activations of interest, [boxes, neurons] over all neurons with
            an activation; -inf where nothing was cut. For a sign, `STRICT` stands for
            every number above zero: of its bounds, only the signs are ever used.
        cut_upper: Largest ones, likewise.
        open_cases: Which cases are not refuted there yet, [boxes, cases] of bool.
        share: Share of the search space, [boxes].
        depth: Splits above each box, [boxes].
    """

    lower: Tensor
    upper: Tensor
    cut_lower: Tensor
    cut_upper: Tensor
    open_cases: Tensor
    share: Tensor
    depth: Tensor

    def __len__(self) -> int:
        return len(self.depth)

    @property
    def cells(self) -> int:
        """Numbers held, roughly."""
        return 2 * (self.lower.numel() + self.cut_lower.numel())

    def pick(self, index: Tensor | slice) -> WaitingBoxes:
        """Some of the boxes."""
        return WaitingBoxes(*(getattr(self, each.name)[index] for each in fields(self)))

    def followed_by(self, *others: WaitingBoxes) -> WaitingBoxes:
        """These boxes and then others."""
        everyone = (self, *others)
        return WaitingBoxes(
            *(torch.cat([getattr(boxes, f.name) for boxes in everyone]) for f in fields(self))
        )

    def halves(self, inputs: Tensor) -> WaitingBoxes:
        """Both halves of every box, each cut across the middle of one input, [boxes]."""
        rows = torch.arange(len(self), device=inputs.device)
        middle = 0.5 * self.lower[rows, inputs] + 0.5 * self.upper[rows, inputs]
        upper, lower = self.upper.clone(), self.lower.clone()
        upper[rows, inputs], lower[rows, inputs] = middle, middle
        half = replace(self, share=0.5 * self.share, depth=self.depth + 1)
        return replace(half, upper=upper).followed_by(replace(half, lower=lower))

    def with_cut(
        self, neurons: Tensor, lower: Tensor | None, upper: Tensor | None, share: float
    ) -> WaitingBoxes:
        """These boxes with one neuron each in a smaller range, [boxes] each."""
        rows = torch.arange(len(self), device=neurons.device)
        cut_lower, cut_upper = self.cut_lower.clone(), self.cut_upper.clone()
        if lower is not None:
            cut_lower[rows, neurons] = lower
        if upper is not None:
            cut_upper[rows, neurons] = upper
        return replace(
            self, cut_lower=cut_lower, cut_upper=cut_upper,
            share=share * self.share, depth=self.depth + 1,
        )  # fmt: skip


class NeuronCuts:
    """The cuts of a batch of boxes, layer by layer, while its layers are bounded.

    Attributes:
        empty: Boxes in which cuts and bounds leave some neuron no value, [boxes] of bool.
    """

    def __init__(self, net: BoundedNetwork, widths: Sequence[int], boxes: WaitingBoxes) -> None:
        self.net = net
        self.lower = torch.split(boxes.cut_lower, list(widths), dim=1)
        self.upper = torch.split(boxes.cut_upper, list(widths), dim=1)
        self.empty = (boxes.lower > boxes.upper).any(dim=1)

    def tighten(self, layer: int, bounds: LayerBounds) -> LayerBounds:
        """Bounds of a layer within its cuts."""
        lower, upper = bounds
        if not self.net.bends(layer):
            return bounds
        if self.net.curves[layer] is Curve.SIGN:
            # No bound may lie between zero and what stands for "above zero".
            lower = torch.where(lower < 0, lower.clamp(max=-STRICT), lower)
            upper = torch.where(upper > 0, upper.clamp(min=STRICT), upper)
        lower, upper = torch.fmax(lower, self.lower[layer]), torch.fmin(upper, self.upper[layer])
        self.empty |= (lower > upper).any(dim=1)
        return lower, upper

    def phases(self) -> list[Tensor] | None:
        """1 where cuts say z >= 0, -1 where z <= 0, else 0; None without any cut.

        One tensor [boxes, neurons] per layer.
        """
        phases = [
            (low >= 0).to(torch.int8) - (high <= 0).to(torch.int8)
            for low, high in zip(self.lower, self.upper, strict=True)
        ]
        return phases if any(bool(each.any()) for each in phases) else None
