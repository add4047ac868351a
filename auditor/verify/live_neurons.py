"""Leaving out neurons that are off over the whole box.

Their activation is exactly zero there, so matrices lose a row and columns and every bound
stays what it was. Small radii turn most neurons of a dense classifier off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from auditor.verify.bounds import BoundedNetwork, LayerBounds
from auditor.verify.torch_map import TorchDense, TorchTerm

Kept = Sequence[Tensor | None]


def live_neurons(
    net: BoundedNetwork, bounds: Sequence[LayerBounds], asked: Sequence[Tensor]
) -> list[Tensor | None]:
    """The neurons of each layer that can be on, or that a pattern speaks of.

    Args:
        net: The network, without property rows.
        bounds: Bounds of every layer's pre-activations over the box, [1, neurons].
        asked: Phases that a pattern asks for, [1, neurons], empty where no ReLU follows.

    Returns:
        Indices in order, or None for a layer that keeps all of its neurons: because they
        are all live, or because it is read or made by something other than a matrix.
    """
    kept: list[Tensor | None] = []
    for layer, (terms, (_, upper)) in enumerate(zip(net.terms, bounds, strict=True)):
        readers = [term for others in net.terms for term in others if term.source == layer]
        if not net.relus[layer] or not all(map(_is_matrix, (*terms, *readers))):
            kept.append(None)
            continue
        live = torch.nonzero((upper[0] > 0) | (asked[layer][0] != 0)).ravel()
        # A layer of nothing would need special cases everywhere.
        live = live if len(live) else live.new_zeros(1)
        kept.append(live if len(live) < net.width(layer) else None)
    return kept


def restricted(net: BoundedNetwork, kept: Kept) -> BoundedNetwork:
    """The network without the neurons that are left out; further layers keep all."""
    every: list[Tensor | None] = [*kept, *[None] * (len(net.terms) - len(kept))]
    return replace(
        net,
        terms=tuple(
            tuple(_part_of(term, rows, every[term.source] if term.source >= 0 else None)
                  for term in terms)
            for terms, rows in zip(net.terms, every, strict=True)
        ),
        biases=tuple(map(_some, net.biases, every)),
        magnitudes=tuple(map(_some, net.magnitudes, every)),
    )  # fmt: skip


def _is_matrix(term: TorchTerm) -> bool:
    return isinstance(term.map, TorchDense) and term.map.blocks == 1


def _some(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _part_of(term: TorchTerm, rows: Tensor | None, columns: Tensor | None) -> TorchTerm:
    if (rows is None and columns is None) or not isinstance(term.map, TorchDense):
        return term
    weight = _some(term.map.weight, rows)
    weight = weight if columns is None else weight[:, columns].contiguous()
    return replace(term, map=TorchDense(weight))
