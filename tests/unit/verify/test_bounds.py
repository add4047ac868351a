"""Relaxations and bounds on planted networks."""

from __future__ import annotations

import numpy as np
import torch

from auditor.verify.bounds import (
    BoundedNetwork,
    interval_bounds,
    layer_bounds,
    relax_relu,
)
from tests.models.relu_chains import absorbing_network, chain, distance_network


def box(*ends: tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    lower, upper = zip(*ends, strict=True)
    return (
        torch.tensor([lower], dtype=torch.float64),
        torch.tensor([upper], dtype=torch.float64),
    )


def test_relaxation_of_an_unstable_neuron_is_the_triangle() -> None:
    relaxation = relax_relu(
        torch.tensor([[-1.0]], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64)
    )
    assert relaxation.lower_slope.item() == 1.0
    assert relaxation.upper_slope.item() == 0.75
    assert 0.75 < relaxation.upper_intercept.item() < 0.75 + 1e-12


def test_stable_neurons_are_exact() -> None:
    relaxation = relax_relu(
        torch.tensor([[0.0, -2.0]], dtype=torch.float64),
        torch.tensor([[1.0, 0.0]], dtype=torch.float64),
    )
    assert relaxation.upper_slope.tolist() == [[1.0, 0.0]]
    assert relaxation.upper_intercept.tolist() == [[0.0, 0.0]]
    assert not relaxation.unstable.any()


def test_backward_bounds_see_that_parts_cancel() -> None:
    """y = relu(x) - relu(x) is 0; intervals say [-1, 1], backward bounds do not."""
    network = chain(([[1.0], [1.0]], [1.0, 1.0], True), ([[1.0, -1.0]], [0.0], False))
    net = BoundedNetwork.over_box(network, np.array([-0.5]), np.array([0.5]))
    ends = box((-0.5, 0.5))
    assert interval_bounds(net, ends)[-1][1].item() >= 1.0
    lower, upper = layer_bounds(net, ends)[-1]
    assert -1e-12 < lower.item() <= 0 <= upper.item() < 1e-12


def test_bounds_of_a_batch_are_those_of_each_box() -> None:
    network = distance_network([0.25, -0.5], 1.0)
    net = BoundedNetwork.over_box(network, -np.ones(2), np.ones(2))
    first, second = box((-1, 0), (0, 1)), box((0.5, 1), (-0.5, 0.5))
    both = tuple(torch.cat(pair) for pair in zip(first, second, strict=True))
    batched = layer_bounds(net, (both[0], both[1]))[-1][0]
    single = [layer_bounds(net, each)[-1][0].item() for each in (first, second)]
    assert np.allclose(batched.ravel().tolist(), single, atol=1e-12)


def test_error_terms_cover_what_floats_absorb() -> None:
    """The output's true range is [-1/2, 1/2]; without error terms floats say [1/2, 1/2]."""
    net = BoundedNetwork.over_box(absorbing_network(), np.zeros(1), np.ones(1))
    for bounds in (interval_bounds(net, box((0, 1))), layer_bounds(net, box((0, 1)))):
        lower, upper = bounds[-1]
        assert lower.item() <= -0.5
        assert upper.item() >= 0.5
