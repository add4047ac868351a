"""How large anything in a graph can get over a box: what its error terms multiply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.verify.network import Network
from auditor.verify.network.graph import INPUT, GraphNetwork
from auditor.verify.rounding import error_factor
from auditor.verify.semantics import execution_noise
from auditor.verify.smooth_relaxation import curve_range
from auditor.verify.torch_map import TorchTerm


@dataclass(frozen=True)
class GraphMagnitudes:
    """Bounds of absolute values over a box, rounded up.

    Attributes:
        sums: `sum |W| |h| + |b|` of each layer, [neurons] each.
        underflow: What underflow can lose in one backward pass.
        noise_factor: As in `Magnitudes`, for float32 semantics.
        noise_floor: Likewise.
    """

    sums: tuple[Tensor, ...]
    underflow: float
    noise_factor: float = 0.0
    noise_floor: float = 0.0


def graph_magnitudes(
    network: GraphNetwork,
    terms: Sequence[Sequence[TorchTerm]],
    lower: Tensor,
    upper: Tensor,
    executed: Network | None = None,
) -> GraphMagnitudes:
    """Interval bounds of every layer's absolute values over a box.

    Args:
        network: The network.
        terms: Its terms as torch maps.
        lower: Lower ends of the inputs, [inputs], float64.
        upper: Upper ends.
        executed: The chain whose float32 execution is meant; its layers come first in the
            graph, and what follows them (property rows) is not executed.
    """
    factors, floors = [0.0], [0.0]
    ranges: dict[int, tuple[Tensor, Tensor]] = {INPUT: (lower, upper)}
    largest = 2.0 + float(torch.maximum(lower.abs(), upper.abs()).sum())
    sums = []
    for index, (layer, parts) in enumerate(zip(network.layers, terms, strict=True)):
        slack = error_factor(4 * layer.longest_sum + 4 * len(parts) + 16)
        bias = torch.from_numpy(layer.bias).to(lower.device)
        size, middle, spread = bias.abs(), bias, torch.zeros_like(bias)
        for part in parts:
            low, high = ranges[part.source]
            absolute = part.map.absolute()
            size = size + absolute.apply(torch.maximum(low.abs(), high.abs()))
            middle = middle + part.map.apply(0.5 * low + 0.5 * high)
            spread = spread + absolute.apply(0.5 * high - 0.5 * low)
        size = size * (1.0 + slack) + 1e-300
        spread = spread + 2.0 * slack * size + 1e-300
        if executed is not None and index < len(executed.layers):
            before = torch.maximum(*(end.abs() for end in ranges[index - 1])).cpu().numpy()
            noise = execution_noise(executed.layers[index], before)
            tiny = torch.from_numpy(noise.absolute).to(lower.device)
            error = noise.relative * size + tiny
            spread, size = spread + error, size + error
            sums.append(size + tiny / noise.relative)
            factors.append(noise.relative)
            floors.append(float(noise.absolute.max(initial=0.0)))
        else:
            sums.append(size)
        # fmax and fmin: an overflow to "not a number" must leave the bound that is known.
        low = torch.fmax(-size, middle - spread)
        high = torch.fmin(size, middle + spread)
        if layer.relu:
            low, high = low.clamp(min=0.0), high.clamp(min=0.0)
        if layer.curve is not None:
            # The lines of a curve are over what enters it, which may be far larger.
            largest += float(size.sum())
            low, high = curve_range(layer.curve, low, high)
        ranges[index] = low, high
        largest += float(torch.maximum(low.abs(), high.abs()).sum())
    widths = network.num_inputs + sum(layer.num_outputs for layer in network.layers) + 2
    # Each product loses at most 2**-1075 and is multiplied by a value afterwards.
    underflow = max(float(widths) ** 2 * 2.0**-1060 * largest, 1e-290)
    return GraphMagnitudes(tuple(sums), underflow, max(factors), max(floors))
