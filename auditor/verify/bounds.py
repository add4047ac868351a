"""Batched linear bounds of a network in torch float64, with rounding accounted for.

Interval bounds, and backward linear bounds (Zhang et al. 2018, CROWN, 1811.00866) with
free lower slopes (Xu et al. 2021, alpha-CROWN, 2011.13824) and multipliers of fixed
phases (Wang et al. 2021, beta-CROWN, 2103.06624).

Soundness over the reals is argued as in `box_kernel`: each form is defined by its
floats; a pass sums `|lam| . magnitude` along the way, where `magnitude[k]` bounds
`sum |W| |h| + |b|` of a layer over the box; with N operations a term can pass through, the true
bound is at least `constant - gamma_N * sum`, in any order of summation. Slopes are
floats in [0, 1] and products with them round towards zero or not past it, intercepts
are rounded away from zero, and a rounded multiplier is still a non-negative one. Lines of
curves are certified for their floats by `smooth_relaxation`; products with their slopes
are covered by the sums on both sides of the activation, intercepts by their own sizes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.errors import UnsupportedModel
from auditor.verify.graph_magnitudes import graph_magnitudes
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.network.curve import Curve
from auditor.verify.network.graph import INPUT
from auditor.verify.rounding import UNIT_ROUNDOFF, error_factor
from auditor.verify.semantics import Semantics, why_not_float32
from auditor.verify.smooth_relaxation import curve_range, relax_curve
from auditor.verify.torch_map import TorchTerm, torch_terms

CHUNK_CELLS = 4_000_000
_FLAT = 1e-9  # a curve that varies less is as good as constant


@dataclass(frozen=True)
class ReluRelaxation:
    """Linear bounds of a layer's activations; all tensors [boxes, neurons].

    `lower_slope * z + lower_intercept <= f(z) <= upper_slope * z + upper_intercept` on the
    interval, where f is a ReLU or a curve.

    Attributes:
        lower_slope: Slope of the line below.
        upper_slope: Slope of the line above.
        upper_intercept: Intercept of the line above.
        unstable: Where any lower slope in [0, 1] is sound; nowhere for a curve.
        lower_intercept: Intercept of the line below; None for a ReLU, where it is zero.
    """

    lower_slope: Tensor
    upper_slope: Tensor
    upper_intercept: Tensor
    unstable: Tensor
    lower_intercept: Tensor | None = None

    def pick(self, boxes: slice) -> ReluRelaxation:
        """That of some of the boxes."""
        own = self.lower_intercept
        return ReluRelaxation(
            self.lower_slope[boxes],
            self.upper_slope[boxes],
            self.upper_intercept[boxes],
            self.unstable[boxes],
            None if own is None else own[boxes],
        )


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


def no_activation(like: Tensor) -> ReluRelaxation:
    """The relaxation of a layer without activation: nothing to relax, [boxes, 0]."""
    nothing = like[:, :0]
    return ReluRelaxation(nothing, nothing, nothing, nothing.bool())


@dataclass(frozen=True)
class BoundedNetwork:
    """A network over one box, as tensors, with what the error terms need.

    Attributes:
        terms: What each layer adds up; the last layer may be property rows.
        biases: [outputs] of each layer.
        relus: Whether a ReLU follows each layer.
        curves: Which curve follows each layer in place of a ReLU.
        magnitudes: Bounds of `sum |W| |h| + |b|` over the box, [outputs] of each layer.
        factor: `gamma_N` of one backward pass.
        floor: What underflow can lose in one pass.
    """

    terms: tuple[tuple[TorchTerm, ...], ...]
    biases: tuple[Tensor, ...]
    relus: tuple[bool, ...]
    curves: tuple[Curve | None, ...]
    magnitudes: tuple[Tensor, ...]
    factor: float
    floor: float

    @classmethod
    def over_box(
        cls,
        network: Network | GraphNetwork,
        lower: Float64,
        upper: Float64,
        *,
        rows: tuple[Float64, Float64] | None = None,
        device: str = "cpu",
        semantics: Semantics = Semantics.REAL,
        slack: float = 1.0,
    ) -> BoundedNetwork:
        """Prepare a network for bounds over sub-boxes of [lower, upper].

        Args:
            network: The network.
            lower: Lower ends of a box that contains every box asked about, [inputs].
            upper: Upper ends.
            rows: Rows and bounds (C, d) appended as a last layer `C y - d`; entries of C
                may be rounded once.
            device: Torch device.
            semantics: Whether bounds speak of the real network or of its executions.
            slack: What error terms are multiplied with, at least 1.

        Raises:
            UnsupportedModel: Float32 semantics of a network that is no chain.
        """
        executed = network if semantics is Semantics.FLOAT32 else None
        if executed is not None and not isinstance(executed, Network):
            raise UnsupportedModel(why_not_float32(executed))
        graph = GraphNetwork.from_chain(network) if isinstance(network, Network) else network
        if rows is not None:
            graph = graph.followed_by(rows[0], -rows[1])
        terms = torch_terms(graph, device)
        ends = torch.from_numpy(lower).to(device), torch.from_numpy(upper).to(device)
        sizes = graph_magnitudes(graph, terms, *ends, executed)
        widest = max(graph.num_inputs, *(layer.num_outputs for layer in graph.layers))
        path = sum(3 * layer.longest_sum + 4 * len(layer.terms) + 16 for layer in graph.layers)
        return cls(
            terms=terms,
            biases=tuple(torch.from_numpy(layer.bias).to(device) for layer in graph.layers),
            relus=tuple(layer.relu for layer in graph.layers),
            curves=tuple(layer.curve for layer in graph.layers),
            magnitudes=sizes.sums,
            # A term passes its layer's sum on the way, and the sums of constants at last.
            factor=slack
            * (error_factor(path + 4 * widest + 4 * graph.num_inputs + 256) + sizes.noise_factor),
            floor=slack * (sizes.underflow + sizes.noise_floor),
        )

    def width(self, layer: int) -> int:
        """Number of neurons of a layer."""
        return len(self.biases[layer])

    def bends(self, layer: int) -> bool:
        """Whether an activation follows a layer."""
        return self.relus[layer] or self.curves[layer] is not None

    def affine(self, layer: int, hidden: Mapping[int, Tensor], *, absolute: bool = False) -> Tensor:
        """A layer's sum at values of the layers it reads, [..., neurons].

        Args:
            layer: The layer.
            hidden: Values of earlier layers after their activation, and of `INPUT`.
            absolute: Entries' absolute values instead of entries, and no bias.
        """
        total: Tensor | None = None if absolute else self.biases[layer]
        for term in self.terms[layer]:
            image = (term.map.absolute() if absolute else term.map).apply(hidden[term.source])
            total = image if total is None else total + image
        if total is None:
            raise ValueError("a layer without terms")
        return total


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
    constant, size = start.new_zeros(start.shape[:2]), start.new_zeros(start.shape[:2])
    forms: dict[int, Tensor] = {layer: start}
    recorded = [start.new_zeros((*start.shape[:2], 0))] * layer
    for k in range(layer, -1, -1):
        form = forms.pop(k, None)
        if k < layer and net.bends(k):
            extra = multipliers[k] if multipliers is not None else None
            if form is None:
                recorded[k] = start.new_zeros(()).expand(*start.shape[:2], net.width(k))
                form = None if extra is None else -extra
            else:
                recorded[k] = form
                chosen = slopes[k] if slopes is not None else None
                size = size + form.abs() @ net.magnitudes[k]
                form, part, spread = _through_activation(form, relaxations[k], chosen)
                constant, size = constant + part, size + spread
                form = form if extra is None else form - extra
        if form is None:
            continue
        constant = constant + form @ net.biases[k]
        size = size + form.abs() @ net.magnitudes[k]
        for term in net.terms[k]:
            image, known = term.map.pull_back(form), forms.get(term.source)
            forms[term.source] = image if known is None else known + image
    over_input = forms.get(INPUT)
    if over_input is None:
        over_input = torch.zeros_like(box[0])[:, None, :].expand(*start.shape[:2], -1)
    value, reach = _least_over_box(over_input, box)
    size = size + reach
    constant = constant - net.factor * size - net.floor
    return LinearForms(over_input, constant, constant + value - net.factor * size, tuple(recorded))


def _least_over_box(form: Tensor, box: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Minimum of forms [boxes, rows, inputs] over boxes, and `|form| . max(|low|, |high|)`.

    The minimum is `form . centre - |form| . radius`, whose sums differ from the exact ones by
    less than the error factor times the second: it bounds both sums of absolute values.
    """
    low, high = box
    size = form.abs()
    center, radius = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    least = _row_products(form, center) - _row_products(size, radius)
    return least, _row_products(size, torch.maximum(low.abs(), high.abs()))


def _row_products(forms: Tensor, vectors: Tensor) -> Tensor:
    """Products of each box's rows and vector, [boxes, rows]."""
    return torch.einsum("brn,bn->br", forms, vectors)


def _through_activation(
    form: Tensor, relaxation: ReluRelaxation, chosen: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients over pre-activations, what the intercepts add to the constant, its size."""
    negative, positive = form.clamp(max=0.0), form.clamp(min=0.0)
    slope = relaxation.lower_slope[:, None, :]
    if chosen is not None:
        slope = torch.where(relaxation.unstable[:, None, :], chosen, slope)
    above = negative * relaxation.upper_intercept[:, None, :]
    image = positive * slope + negative * relaxation.upper_slope[:, None, :]
    if relaxation.lower_intercept is None:
        part = above.sum(dim=-1)
        return image, part, -part
    below = positive * relaxation.lower_intercept[:, None, :]
    return image, (above + below).sum(dim=-1), (above.abs() + below.abs()).sum(dim=-1)


LayerBounds = tuple[Tensor, Tensor]


def interval_bounds(net: BoundedNetwork, box: tuple[Tensor, Tensor]) -> list[LayerBounds]:
    """Interval bounds of every layer's pre-activations, [boxes, neurons] pairs.

    With centre c and radius r: `W c + b -+ |W| r`, minus and plus the rounding of both.
    """
    hidden = {INPUT: box}
    bounds = []
    for k in range(len(net.terms)):
        centers = {index: 0.5 * low + 0.5 * high for index, (low, high) in hidden.items()}
        radii = {index: 0.5 * high - 0.5 * low for index, (low, high) in hidden.items()}
        slack = 4.0 * net.factor * net.magnitudes[k] + net.floor
        middle, spread = net.affine(k, centers), net.affine(k, radii, absolute=True)
        low, high = middle - spread - slack, middle + spread + slack
        bounds.append((low, high))
        curve = net.curves[k]
        if curve is not None:
            hidden[k] = curve_range(curve, low, high)
        else:
            hidden[k] = (low.clamp(min=0.0), high.clamp(min=0.0)) if net.relus[k] else (low, high)
    return bounds


def with_phases(bounds: LayerBounds, phases: Tensor) -> LayerBounds:
    """Bounds of neurons whose phases in {-1, 0, 1} say which side of zero they are on."""
    low, high = bounds
    return (
        torch.where(phases > 0, low.clamp(min=0.0), low),
        torch.where(phases < 0, high.clamp(max=0.0), high),
    )


def relaxation_of(net: BoundedNetwork, layer: int, bounds: LayerBounds) -> ReluRelaxation:
    """The relaxation of one layer under its bounds."""
    if net.relus[layer]:
        return relax_relu(*bounds)
    curve = net.curves[layer]
    if curve is not None:
        lines = relax_curve(curve, *bounds)
        fixed = torch.zeros_like(lines.lower_slope).bool()
        return ReluRelaxation(
            lines.lower_slope,
            lines.upper_slope,
            lines.upper_intercept,
            fixed,
            lines.lower_intercept,
        )
    return no_activation(bounds[0])


def layer_bounds(
    net: BoundedNetwork,
    box: tuple[Tensor, Tensor],
    *,
    deadline: float = math.inf,
    outputs: bool = True,
    record: Callable[[int, Tensor, LinearForms], None] | None = None,
    tighten: Callable[[int, LayerBounds], LayerBounds] | None = None,
) -> list[LayerBounds]:
    """Backward bounds of pre-activations, never wider than intervals.

    Only neurons that intervals leave unstable, or in a part of a curve that is not flat,
    are bounded again, and the last layer.

    Args:
        net: The network.
        box: Lower and upper ends, [boxes, inputs] each.
        deadline: `time.monotonic()` value after which intervals are left as they are.
        outputs: Whether the last layer counts, or is left with its intervals.
        record: Called with a layer, some of its neurons, and their forms: those of z for
            each neuron and then those of -z.
        tighten: Given a layer and its bounds, smaller ones that hold on what is searched.

    Returns:
        Pairs (lower, upper), [boxes, neurons], one per layer.
    """
    bounds: list[LayerBounds] = []
    relaxations: list[ReluRelaxation] = []
    last = len(net.terms) - 1
    for k, (low, high) in enumerate(interval_bounds(net, box)):
        lower, upper = low, high
        if k > 0 and (net.bends(k) or (outputs and k == last)):
            lower, upper = low.clone(), high.clone()
            asked = _open_neurons(net, k, low, high)
            neurons = torch.nonzero(asked.any(dim=0)).ravel()
            for chunk in torch.split(neurons, chunk_size(net, k, low.shape[0])):
                if not len(chunk) or time.monotonic() >= deadline:
                    break
                unit = one_hot(chunk, low)
                start = torch.cat([unit, -unit]).expand(low.shape[0], -1, -1)
                forms = backward_bounds(net, k, start, relaxations, box)
                if record is not None:
                    record(k, chunk, forms)
                both = forms.lower
                lower[:, chunk] = torch.fmax(low[:, chunk], both[:, : len(chunk)])
                upper[:, chunk] = torch.fmin(high[:, chunk], -both[:, len(chunk) :])
        bounds.append((lower, upper) if tighten is None else tighten(k, (lower, upper)))
        relaxations.append(relaxation_of(net, k, bounds[-1]))
    return bounds


def _open_neurons(net: BoundedNetwork, layer: int, low: Tensor, high: Tensor) -> Tensor:
    """Neurons whose activation better bounds would relax less, [boxes, neurons] of bool."""
    if net.relus[layer]:
        return (low < 0) & (high > 0)
    curve = net.curves[layer]
    if curve is None:
        return torch.ones_like(low).bool()
    least, most = curve_range(curve, low, high)
    return most - least > _FLAT


def one_hot(neurons: Tensor, like: Tensor) -> Tensor:
    """Rows that pick single neurons, [len(neurons), neurons of `like`]."""
    rows = like.new_zeros((len(neurons), like.shape[-1]))
    rows[torch.arange(len(neurons), device=like.device), neurons] = 1.0
    return rows


def chunk_size(net: BoundedNetwork, layer: int, boxes: int) -> int:
    """How many neurons of a layer to bound at once, so that memory stays bounded."""
    widest = max(net.width(k) for k in range(layer + 1))
    return max(1, CHUNK_CELLS // (2 * boxes * widest))
