"""Carrying inputs through a network, so that rows over inputs are rows over its outputs.

Exact over the reals. A graph gets one more layer that reads its output and its input. In a
chain `x - s` passes every layer as one more ReLU that is always active, because the stored
shift s lies below the box; `s` times the row's coefficient moves to the row's right-hand
side as an exact fraction. The shift is well below the box's end, so that rounded bounds of
those neurons still show them active.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from auditor.verify.network import GraphLayer, GraphNetwork, Network, Term
from auditor.verify.network.chain import AffineLayer, Float64
from auditor.verify.network.graph import INPUT
from auditor.verify.network.linear_map import GatherMap

# Beyond this a chain's matrices grow too much; the graph form carries any number.
MAX_CARRIED_IN_CHAIN = 32


@dataclass(frozen=True, eq=False)
class Carried:
    """A network whose last outputs are inputs.

    Attributes:
        network: The network; its outputs are the original ones, then `x[indices] - shifts`.
        indices: The inputs that are carried.
        shifts: What was subtracted from each, exact.
    """

    network: Network | GraphNetwork
    indices: tuple[int, ...]
    shifts: tuple[Fraction, ...]


def carry_inputs(
    network: Network | GraphNetwork,
    indices: Sequence[int],
    lower: Float64,
    upper: Float64,
    *,
    keep_chain: bool = False,
) -> Carried:
    """The network with some inputs as further outputs, over a box.

    Args:
        network: The network.
        indices: Which inputs, in ascending order; none leaves the network as it is.
        lower: Lower ends of the box, [inputs].
        upper: Upper ends.
        keep_chain: Whether a chain must stay one, however many inputs are carried.
    """
    picked = tuple(indices)
    nothing = (Fraction(0),) * len(picked)
    if not picked:
        return Carried(network, (), ())
    if isinstance(network, GraphNetwork):
        return Carried(_carried_in_graph(network, picked), picked, nothing)
    if len(picked) > MAX_CARRIED_IN_CHAIN and not keep_chain:
        graph = GraphNetwork.from_chain(network)
        return Carried(_carried_in_graph(graph, picked), picked, nothing)
    shift = _below(lower[list(picked)], upper[list(picked)])
    layers = [
        _with_carried(layer, number, picked, shift) for number, layer in enumerate(network.layers)
    ]
    return Carried(
        replace(network, layers=tuple(layers)), picked, tuple(map(Fraction, shift.tolist()))
    )


def _below(lower: Float64, upper: Float64) -> Float64:
    """Numbers clearly below the lower ends, with few digits."""
    reach = np.maximum(np.maximum(np.abs(lower), np.abs(upper)), 1e-30)
    exponent = np.ceil(np.log2(reach))
    # Between 1/8 and 3/8 of the reach below; every operation here is far from rounding
    # past the end, and the comparison that follows would show it.
    unit = np.exp2(exponent - 3.0)
    shift: Float64 = (np.floor(lower / unit) - 1.0) * unit
    return np.where(shift < lower, shift, lower - unit)


def _carried_in_graph(network: GraphNetwork, indices: tuple[int, ...]) -> GraphNetwork:
    outputs, carried = network.num_outputs, len(indices)
    none = np.full(carried, -1, dtype=np.int64)
    from_output = GatherMap(np.concatenate([np.arange(outputs), none]), outputs)
    from_input = GatherMap(
        np.concatenate([np.full(outputs, -1), np.array(indices)]).astype(np.int64),
        network.num_inputs,
    )
    last = Term(len(network.layers) - 1, from_output)
    layer = GraphLayer((last, Term(INPUT, from_input)), np.zeros(outputs + carried), name="carried")
    return replace(network, layers=(*network.layers, layer))


def _with_carried(
    layer: AffineLayer, number: int, indices: tuple[int, ...], shift: Float64
) -> AffineLayer:
    """The layer with one more neuron for each carried input, after its own."""
    carried = len(indices)
    columns = layer.num_inputs + (carried if number else 0)
    weight = np.zeros((layer.num_outputs + carried, columns))
    weight[: layer.num_outputs, : layer.num_inputs] = layer.weight
    rows = layer.num_outputs + np.arange(carried)
    weight[rows, np.array(indices) if number == 0 else layer.num_inputs + np.arange(carried)] = 1.0
    bias = np.concatenate([layer.bias, -shift if number == 0 else np.zeros(carried)])
    return replace(layer, weight=weight, bias=bias)
