"""Polyak steps on slopes, phase multipliers and row weights."""

from __future__ import annotations

import numpy as np
import torch

from auditor.verify.bounds import BoundedNetwork, layer_bounds, relaxation_of
from auditor.verify.slope_search import (
    improve_bounds,
    project_to_simplex,
    starting_multipliers,
)
from tests.models.relu_chains import chain, random_chain


def test_projection_onto_the_simplex_is_the_nearest_point() -> None:
    found = project_to_simplex(torch.tensor([[2.0, 0.0], [0.5, 0.5], [0.4, 0.2]]))
    assert torch.allclose(found, torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.6, 0.4]]))


def test_more_steps_never_give_a_lower_bound() -> None:
    network = random_chain(4, (3, 12, 12, 1))
    net = BoundedNetwork.over_box(network, -np.ones(3), np.ones(3))
    box = torch.full((1, 3), -1.0, dtype=torch.float64), torch.ones((1, 3), dtype=torch.float64)
    relaxations = [relaxation_of(net, k, pair) for k, pair in enumerate(layer_bounds(net, box))]
    start = starting_multipliers(relaxations[:2], torch.ones((1, 1, 1), dtype=torch.float64))
    lower = [
        improve_bounds(net, 2, relaxations, None, box, start, steps).lower.item()
        for steps in (1, 5, 20)
    ]
    assert lower == sorted(lower)
    assert lower[-1] > lower[0]


def test_a_mixture_of_rows_refutes_what_no_row_does() -> None:
    network = chain(([[1.0], [-1.0]], [0.1, 0.1], False))
    net = BoundedNetwork.over_box(network, -np.ones(1), np.ones(1))
    box = -torch.ones((1, 1), dtype=torch.float64), torch.ones((1, 1), dtype=torch.float64)
    start = starting_multipliers([], torch.tensor([[[1.0, 0.0]]], dtype=torch.float64))
    found = improve_bounds(net, 0, [], None, box, start, 30, mix_rows=True)
    assert found.lower.item() > 0
