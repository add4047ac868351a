"""Splitting boxes: parts cover the whole, and shares add up."""

from __future__ import annotations

import numpy as np
import torch

from auditor.verify.bounds import BoundedNetwork
from auditor.verify.input_boxes import STRICT, NeuronCuts, WaitingBoxes
from auditor.verify.network import GraphLayer, GraphNetwork, Term
from auditor.verify.network.curve import Curve
from auditor.verify.network.graph import INPUT
from auditor.verify.network.linear_map import identity_map


def boxes(*ends: tuple[float, float]) -> WaitingBoxes:
    lower = torch.tensor([[low for low, _ in ends]], dtype=torch.float64)
    upper = torch.tensor([[high for _, high in ends]], dtype=torch.float64)
    return WaitingBoxes(
        lower=lower,
        upper=upper,
        cut_lower=torch.full_like(lower, -torch.inf),
        cut_upper=torch.full_like(lower, torch.inf),
        open_cases=torch.ones((1, 1), dtype=torch.bool),
        share=torch.ones(1, dtype=torch.float64),
        depth=torch.zeros(1, dtype=torch.int64),
    )


def signs() -> BoundedNetwork:
    layer = GraphLayer((Term(INPUT, identity_map(1)),), np.zeros(1), curve=Curve.SIGN)
    return BoundedNetwork.over_box(GraphNetwork((layer,), 1), -np.ones(1), np.ones(1))


def one(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def test_halves_meet_in_the_middle() -> None:
    both = boxes((0.0, 1.0), (-2.0, 4.0)).halves(torch.tensor([1]))
    assert both.lower.tolist() == [[0.0, -2.0], [0.0, 1.0]]
    assert both.upper.tolist() == [[1.0, 1.0], [1.0, 4.0]]
    assert both.share.tolist() == [0.5, 0.5]
    assert both.depth.tolist() == [1, 1]


def test_a_sign_cut_above_zero_keeps_every_positive_number() -> None:
    """A bound below what stands for "above zero" does not make the box empty."""
    above = boxes((-1.0, 1.0)).with_cut(torch.tensor([0]), one(STRICT)[0], None, 0.5)
    cuts = NeuronCuts(signs(), [1], above)
    low, high = cuts.tighten(0, (one(-1.0), one(1e-310)))
    assert not cuts.empty.any()
    assert low.item() > 0
    assert high.item() >= 1e-310
    assert [phase.tolist() for phase in cuts.phases() or []] == [[[1]]]


def test_a_sign_cut_above_zero_is_empty_where_z_is_at_most_zero() -> None:
    above = boxes((-1.0, 1.0)).with_cut(torch.tensor([0]), one(STRICT)[0], None, 0.5)
    cuts = NeuronCuts(signs(), [1], above)
    cuts.tighten(0, (one(-1.0), one(0.0)))
    assert cuts.empty.all()


def test_without_cuts_there_are_no_phases() -> None:
    assert NeuronCuts(signs(), [1], boxes((-1.0, 1.0))).phases() is None
