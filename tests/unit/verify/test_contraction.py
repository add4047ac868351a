"""Contraction keeps every point that satisfies the condition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.verify.bounds import BoundedNetwork
from auditor.verify.contraction import contract_boxes, contract_to_phases
from auditor.verify.network.from_onnx import graph_from_onnx
from tests.models.marked_digits import MARKS, PIXELS, trained_network
from tests.models.random_graphs import random_model


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_a_side_moves_to_where_the_others_still_allow_it() -> None:
    """x + y - 1 <= 0 on [0, 4] x [0.5, 4] leaves [0, 0.5] x [0.5, 1]."""
    low, high = contract_boxes(
        (tensor(0, 0.5), tensor(4, 4)), tensor(1, 1), torch.tensor([-1.0], dtype=torch.float64)
    )
    assert torch.allclose(low, tensor(0, 0.5))
    assert torch.allclose(high, tensor(0.5, 1))


def test_an_impossible_condition_leaves_an_empty_box() -> None:
    low, high = contract_boxes(
        (tensor(0), tensor(1)), tensor(1), torch.tensor([0.1], dtype=torch.float64)
    )
    assert bool((low > high).any())


def test_inputs_without_influence_keep_their_sides() -> None:
    low, high = contract_boxes(
        (tensor(0, -1), tensor(1, 1)), tensor(1, 0), torch.tensor([-0.5], dtype=torch.float64)
    )
    assert (low[0, 1].item(), high[0, 1].item()) == (-1, 1)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_no_satisfying_point_is_lost(seed: int) -> None:
    random = np.random.default_rng(seed)
    low, high = np.sort(random.normal(size=(2, 4)), axis=0)
    coefficients = random.normal(size=4) * random.integers(0, 2, 4)
    points = random.uniform(low, high, (500, 4))
    constant = -float(np.median(points @ coefficients))
    kept = points[points @ coefficients + constant <= -1e-12]
    new_low, new_high = contract_boxes(
        (torch.from_numpy(low)[None], torch.from_numpy(high)[None]),
        torch.from_numpy(coefficients)[None],
        torch.tensor([constant], dtype=torch.float64),
    )
    assert (kept >= new_low.numpy()).all()
    assert (kept <= new_high.numpy()).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_inputs_that_show_the_phases_stay(seed: int) -> None:
    """Phases are taken from one point of the box; whoever shares them is not lost."""
    random = np.random.default_rng(seed)
    network = graph_from_onnx(random_model(seed))
    low = random.normal(size=network.num_inputs)
    high = low + random.uniform(0.1, 2.0, network.num_inputs)
    points = random.uniform(low, high, (200, network.num_inputs))
    before = network.preactivations(points)
    signs = [np.sign(value).astype(np.int8) if layer.relu else np.zeros((200, 0), np.int8)
             for value, layer in zip(before, network.layers, strict=True)]  # fmt: skip
    chosen = [
        np.where(random.random(sign.shape[1]) < 0.3, sign[0], 0).astype(np.int8) for sign in signs
    ]
    shares = np.ones(200, bool)
    for sign, phase in zip(signs, chosen, strict=True):
        shares &= (sign * phase >= 0).all(axis=1)
    new_low, new_high = contract_to_phases(
        BoundedNetwork.over_box(network, low, high),
        [torch.from_numpy(phase)[None] for phase in chosen],
        (torch.from_numpy(low)[None], torch.from_numpy(high)[None]),
    )
    assert shares[0]
    assert (points[shares] >= new_low.numpy()).all()
    assert (points[shares] <= new_high.numpy()).all()


def test_every_layer_that_reads_the_inputs_counts() -> None:
    """`marked` and `visible` are not the first layer: mark 3 above 1/2, mark 4 below 2/5."""
    proto, _ = trained_network("dense")
    network = graph_from_onnx(proto)
    phases = [torch.zeros((1, layer.num_outputs if layer.relu else 0), dtype=torch.int8)
              for layer in network.layers]  # fmt: skip
    names = [layer.name for layer in network.layers]
    phases[names.index("marked")][0, 3] = 1
    phases[names.index("visible")][0, 4] = -1
    low, high = np.zeros(PIXELS), np.ones(PIXELS)
    new_low, new_high = contract_to_phases(
        BoundedNetwork.over_box(network, low, high), phases,
        (torch.from_numpy(low)[None], torch.from_numpy(high)[None]),
    )  # fmt: skip
    assert new_low[0, MARKS][3].item() == pytest.approx(0.5, abs=1e-6)
    assert new_high[0, MARKS][4].item() == pytest.approx(0.4, abs=1e-6)
    assert new_low.sum() == pytest.approx(0.5, abs=1e-6)
    assert new_high.sum() == pytest.approx(PIXELS - 0.6, abs=1e-6)
