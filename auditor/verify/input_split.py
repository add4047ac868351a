"""Which input to split: the one that most of the relaxations' gaps come from.

Blame, in the words of the measurements: every neuron whose activation is relaxed blames
the inputs in proportion to how far each moves it, with a weight for how much is lost
there. Smear (Kearfott 1996) looks at what the output is sensitive to instead, and needs
many more boxes where gaps and sensitivity lie on different inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auditor.verify.bounds import (
    BoundedNetwork,
    LayerBounds,
    LinearForms,
    ReluRelaxation,
    backward_bounds,
    one_hot,
)

_TINY = 1e-300


class InputBlame:
    """Collects, while boxes are bounded, how far each input moves each neuron.

    Attributes:
        shares: Per layer the neurons and how much of each one's range every input gives,
            [boxes, neurons, inputs], summing to 1 over the inputs.
    """

    def __init__(self, net: BoundedNetwork, box: tuple[Tensor, Tensor]) -> None:
        self.net = net
        self.radius = 0.5 * (box[1] - box[0])
        self.shares: dict[int, list[tuple[Tensor, Tensor]]] = {}
        if net.bends(0):
            neurons = torch.arange(net.width(0), device=box[0].device)
            unit = one_hot(neurons, net.biases[0])[None]
            first = backward_bounds(net, 0, unit, [], (box[0][:1], box[1][:1]))
            self._keep(0, neurons, first.coefficients.abs())

    def record(self, layer: int, neurons: Tensor, forms: LinearForms) -> None:
        """Take note of the forms of some neurons; see `layer_bounds`."""
        if self.net.bends(layer):
            both = forms.coefficients.abs()
            count = len(neurons)
            self._keep(layer, neurons, both[:, :count] + both[:, count:])

    def _keep(self, layer: int, neurons: Tensor, spread: Tensor) -> None:
        moved = spread * self.radius[:, None, :]
        share = moved / (moved.sum(dim=-1, keepdim=True) + _TINY)
        self.shares.setdefault(layer, []).append((neurons, share))

    def scores(
        self,
        bounds: Sequence[LayerBounds],
        relaxations: Sequence[ReluRelaxation],
        sensitivity: Sequence[Tensor],
    ) -> Tensor:
        """What splitting each input promises, [boxes, inputs].

        Args:
            bounds: Pre-activation bounds, [boxes, neurons] per layer.
            relaxations: The relaxations they gave.
            sensitivity: Sizes of the open rows' coefficients over activations, likewise.
        """
        total = torch.zeros_like(self.radius)
        for layer, parts in self.shares.items():
            lost = relaxation_gap(relaxations[layer], bounds[layer]) * sensitivity[layer]
            for neurons, share in parts:
                total = total + torch.einsum("bj,bji->bi", lost[:, neurons], share)
        return total.nan_to_num(0.0, 0.0, 0.0)


def relaxation_gap(relaxation: ReluRelaxation, bounds: LayerBounds) -> Tensor:
    """Distance of a neuron's two lines at the middle of its interval, [boxes, neurons]."""
    middle = 0.5 * bounds[0] + 0.5 * bounds[1]
    gap = (relaxation.upper_slope - relaxation.lower_slope) * middle + relaxation.upper_intercept
    return gap if relaxation.lower_intercept is None else gap - relaxation.lower_intercept
