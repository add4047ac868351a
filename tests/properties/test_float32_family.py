"""Every float32 execution lies inside the bounds of float32 semantics."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auditor.verify.bounds import BoundedNetwork, layer_bounds
from auditor.verify.magnitudes import interval_magnitudes
from auditor.verify.network import AffineLayer, Network
from auditor.verify.semantics import Semantics


def random_network(seed: int, scale: float) -> Network:
    """A small ReLU network of float32 weights."""
    draws = np.random.default_rng(seed)
    sizes = draws.integers(1, 9, size=int(draws.integers(2, 5))).tolist()
    layers = []
    for number, (before, after) in enumerate(pairwise(sizes)):
        weight, bias = (
            (scale * draws.standard_normal(shape)).astype(np.float32).astype(np.float64)
            for shape in ((after, before), (after,))
        )
        layers.append(AffineLayer(weight, bias, relu=number < len(sizes) - 2))
    return Network(tuple(layers))


def execute(
    network: Network, inputs: NDArray[np.float32], draws: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Pre-activations in float32, each sum over a random binary tree of its terms."""
    values, found = inputs, []
    for layer in network.layers:
        sums = np.empty(layer.num_outputs, dtype=np.float32)
        for row in range(layer.num_outputs):
            terms = [np.float32(w) * v for w, v in zip(layer.weight[row].astype(np.float32), values,
                                                       strict=True)]  # fmt: skip
            terms.append(np.float32(layer.bias[row]))
            while len(terms) > 1:
                first, second = (terms.pop(int(draws.integers(len(terms)))) for _ in range(2))
                terms.append(np.float32(first + second))
            sums[row] = terms[0]
        found.append(sums)
        values = np.maximum(sums, np.float32(0)) if layer.relu else sums
    return found


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    radius=st.sampled_from([0.0, 1e-6, 0.1, 1.0]),
)
def test_random_executions_lie_inside_every_layers_bounds(
    seed: int, scale: float, radius: float
) -> None:
    network, draws = random_network(seed, scale), np.random.default_rng(seed + 1)
    center = draws.standard_normal(network.num_inputs).astype(np.float32).astype(np.float64)
    lower, upper = center - radius, center + radius
    net = BoundedNetwork.over_box(network, lower, upper, semantics=Semantics.FLOAT32)
    with torch.no_grad():
        box = torch.from_numpy(lower)[None], torch.from_numpy(upper)[None]
        bounds = [(low[0].numpy(), high[0].numpy()) for low, high in layer_bounds(net, box)]
    sizes = interval_magnitudes(network, lower, upper, Semantics.FLOAT32)
    for _ in range(8):
        inputs = np.clip(draws.uniform(lower, upper).astype(np.float32), lower, upper)
        inputs = inputs.astype(np.float32)
        if (inputs < lower).any() or (inputs > upper).any():
            continue
        for (low, high), size, found in zip(
            bounds, sizes.sums, execute(network, inputs, draws), strict=True
        ):
            assert (low <= found).all()
            assert (found <= high).all()
            assert (np.abs(found) <= size).all()
