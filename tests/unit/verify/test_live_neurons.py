"""Neurons that are always off are left out, and nothing else changes."""

from __future__ import annotations

import numpy as np
import torch

from auditor.verify.bounds import BoundedNetwork, backward_bounds, layer_bounds, relaxation_of
from auditor.verify.live_neurons import live_neurons, restricted
from auditor.verify.network.from_onnx import graph_from_onnx
from tests.models.random_graphs import random_model
from tests.models.relu_chains import random_chain

NETWORK = random_chain(5, (3, 12, 9, 2))
LOWER, UPPER = np.full(3, 0.2), np.full(3, 0.5)
BOX = torch.from_numpy(LOWER)[None], torch.from_numpy(UPPER)[None]


def prepared() -> tuple[BoundedNetwork, list[tuple[torch.Tensor, torch.Tensor]]]:
    net = BoundedNetwork.over_box(NETWORK, LOWER, UPPER)
    return net, layer_bounds(net, BOX)


def free(net: BoundedNetwork) -> list[torch.Tensor]:
    return [
        torch.zeros((1, net.width(k) if relu else 0), dtype=torch.int8)
        for k, relu in enumerate(net.relus)
    ]


def test_bounds_are_those_of_the_whole_network() -> None:
    net, bounds = prepared()
    kept = live_neurons(net, bounds, free(net))
    assert [None if live is None else len(live) < net.width(k) for k, live in enumerate(kept)] == [
        True, True, None,
    ]  # fmt: skip
    small = restricted(net, kept)
    rows = torch.eye(2, dtype=torch.float64)[None]
    some = [
        (low[:, live], high[:, live]) if live is not None else (low, high)
        for (low, high), live in zip(bounds, kept, strict=True)
    ]
    whole, less = (
        backward_bounds(each, 2, rows, [relaxation_of(each, k, ends[k]) for k in (0, 1)], BOX)
        for each, ends in ((net, bounds), (small, some))
    )
    torch.testing.assert_close(less.lower, whole.lower, rtol=1e-12, atol=1e-12)
    assert bool((less.lower >= whole.lower - 1e-12).all())


def test_neurons_of_a_pattern_stay() -> None:
    """A pattern that asks for what is always so must not lose its multiplier."""
    net, bounds = prepared()
    off = int(torch.nonzero(bounds[0][1][0] <= 0)[0])
    asked = free(net)
    asked[0][0, off] = -1
    (first, *_) = live_neurons(net, bounds, asked)
    assert first is not None
    assert off in first.tolist()


def test_layers_that_convolutions_read_or_make_stay_whole() -> None:
    network = graph_from_onnx(random_model(3))
    low = np.zeros(network.num_inputs)
    net = BoundedNetwork.over_box(network, low, low)
    box = torch.from_numpy(low)[None], torch.from_numpy(low)[None]
    kept = live_neurons(net, layer_bounds(net, box), free(net))
    for layer, live in enumerate(kept):
        readers = [term for terms in net.terms for term in terms if term.source == layer]
        structured = [
            term for term in (*net.terms[layer], *readers) if not hasattr(term.map, "weight")
        ]
        assert not structured or live is None
