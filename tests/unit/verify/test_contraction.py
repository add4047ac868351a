"""Contraction keeps every point that satisfies the condition."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.verify.contraction import contract_boxes


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
