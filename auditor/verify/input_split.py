"""What to split: the input that most of the relaxations' gaps come from, or a neuron.

Blame, in the words of the measurements: every neuron whose activation is relaxed blames
the inputs in proportion to how far each moves it, with a weight for how much the rows
lose there. A neuron whose own loss, times a factor, is more than what any input is to
blame for is itself cut: a ReLU or a sign at zero, a curve where its range is halved.
Halving an input changes no sign whose plane still crosses the box, so signs go first;
in small boxes everything else becomes exact, so inputs go before other neurons.
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
from auditor.verify.contraction import Boxes, contract_boxes
from auditor.verify.input_boxes import STRICT, WaitingBoxes
from auditor.verify.network.curve import Curve
from auditor.verify.rounding import UNIT_ROUNDOFF

CURVE_FACTOR = 0.3
_LEAST_LOSS = 1e-12
_SIGN_FIRST = 1e12
_LAYER_FIRST = 1e3
_TINY = 1e-300


class InputBlame:
    """Collects, while boxes are bounded, how far each input moves each neuron.

    Attributes:
        shares: Per layer the neurons and how much of each one's range every input gives,
            [boxes, neurons, inputs], summing to 1 over the inputs.
    """

    def __init__(self, net: BoundedNetwork, box: Boxes) -> None:
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

    def scores(self, lost: Sequence[Tensor]) -> Tensor:
        """What splitting each input promises, [boxes, inputs].

        Args:
            lost: What the rows lose at each neuron, [boxes, neurons] per layer.
        """
        total = torch.zeros_like(self.radius)
        for layer, parts in self.shares.items():
            for neurons, share in parts:
                total = total + torch.einsum("bj,bji->bi", lost[layer][:, neurons], share)
        return total.nan_to_num(0.0, 0.0, 0.0)


def relaxation_gap(relaxation: ReluRelaxation, bounds: LayerBounds) -> Tensor:
    """Distance of a neuron's two lines at the middle of its interval, [boxes, neurons]."""
    middle = 0.5 * bounds[0] + 0.5 * bounds[1]
    gap = (relaxation.upper_slope - relaxation.lower_slope) * middle + relaxation.upper_intercept
    return gap if relaxation.lower_intercept is None else gap - relaxation.lower_intercept


def losses_by_neuron(
    net: BoundedNetwork,
    bounds: Sequence[LayerBounds],
    relaxations: Sequence[ReluRelaxation],
    sensitivity: Sequence[Tensor],
) -> list[Tensor]:
    """What the rows lose at each neuron, [boxes, neurons] per layer.

    Args:
        net: The network.
        bounds: Pre-activation bounds, [boxes, neurons] per layer.
        relaxations: The relaxations they gave.
        sensitivity: Sizes of the rows' coefficients over activations, [boxes, neurons].
    """
    losses = [
        relaxation_gap(relaxation, bounds[k]) * sensitivity[k]
        if net.bends(k)
        else sensitivity[k][:, :0]
        for k, relaxation in enumerate(relaxations)
    ]
    return [each.nan_to_num(0.0, 0.0, 0.0) for each in losses]


def neuron_scores(
    net: BoundedNetwork, bounds: Sequence[LayerBounds], losses: Sequence[Tensor]
) -> Tensor:
    """What cutting each neuron promises, beside `InputBlame.scores`; -inf where nothing.

    Signs go layer by layer, and even where the rows lose nothing by one: with the layers
    before it undecided, a sign is cut into parts that nothing can refute.
    """
    scores = []
    for k, loss in enumerate(losses):
        if net.curves[k] is Curve.SIGN:
            score = _SIGN_FIRST * _LAYER_FIRST**-k * (loss + _LEAST_LOSS)
            closed = bounds[k][0].sign() == bounds[k][1].sign()
        else:
            score, closed = CURVE_FACTOR * loss, loss <= _LEAST_LOSS
        scores.append(score.masked_fill(closed, -torch.inf))
    return torch.cat(scores, dim=1)


def cut_neurons(
    net: BoundedNetwork,
    layer: int,
    neurons: Tensor,
    boxes: WaitingBoxes,
    bounds: LayerBounds,
    relaxations: Sequence[ReluRelaxation],
    place: int,
) -> list[WaitingBoxes]:
    """The parts of boxes after a cut of one neuron each; some of them may be empty.

    Args:
        net: The network.
        layer: The layer of all the neurons.
        neurons: Index in the layer, [boxes].
        boxes: The boxes.
        bounds: Bounds of the layer over them.
        relaxations: Of the layers before, over them.
        place: Where the layer's neurons start among all that can be cut.
    """
    unit = one_hot(neurons, net.biases[layer])[:, None, :]
    box = boxes.lower, boxes.upper
    forms = backward_bounds(net, layer, torch.cat([unit, -unit], dim=1), relaxations, box)
    rows = torch.arange(len(boxes), device=neurons.device)
    curve = net.curves[layer]
    at = _cut_place(curve, bounds[0][rows, neurons], bounds[1][rows, neurons])
    zero, where = torch.zeros_like(at), place + neurons
    if curve is Curve.SIGN:
        parts = [
            boxes.with_cut(where, None, zero - STRICT, 0.5),
            boxes.with_cut(where, zero, zero, 0.0),
            boxes.with_cut(where, zero + STRICT, None, 0.5),
        ]
        # Depth first takes the last one first; zero itself has no volume, so it comes last.
        return [
            _contracted(_contracted(parts[1], forms, zero, above=False), forms, zero, above=True),
            _contracted(parts[0], forms, zero, above=False),
            _contracted(parts[2], forms, zero, above=True),
        ]
    return [
        _contracted(boxes.with_cut(where, None, at, 0.5), forms, at, above=False),
        _contracted(boxes.with_cut(where, at, None, 0.5), forms, at, above=True),
    ]


def _cut_place(curve: Curve | None, lower: Tensor, upper: Tensor) -> Tensor:
    """Where to cut: at zero, except for a curve whose range that would not about halve."""
    if curve is None or curve is Curve.SIGN:
        return torch.zeros_like(lower)
    even = torch.minimum(-lower, upper) > 0.25 * (upper - lower)
    return torch.where(even, torch.zeros_like(lower), 0.5 * lower + 0.5 * upper)


def _contracted(
    boxes: WaitingBoxes, forms: LinearForms, at: Tensor, *, above: bool
) -> WaitingBoxes:
    """Boxes shrunk to where the neuron's forms allow it to be above or below a value."""
    which = int(above)
    beyond = (at if above else -at) - 4.0 * UNIT_ROUNDOFF * at.abs()
    lower, upper = contract_boxes(
        (boxes.lower, boxes.upper), forms.coefficients[:, which], forms.constant[:, which] + beyond
    )
    return WaitingBoxes(
        lower, upper, boxes.cut_lower, boxes.cut_upper, boxes.open_cases, boxes.share, boxes.depth
    )
