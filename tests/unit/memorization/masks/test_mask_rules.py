"""Rules choose what their formulas say, and controls match what they are controls of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from auditor.errors import ConfigurationError
from auditor.memorization.masks.input_norms import InputNorms
from auditor.memorization.masks.mask_rules import (
    MaskRule,
    magnitude,
    magnitude_masks,
    masks_by_norms,
    matched_masks,
    random_mask,
    random_matched,
    top_of_rows,
    wanda,
    wanda_diff,
    wanda_gate,
)
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite

WEIGHT = torch.tensor([[1.0, -4.0, 2.0, 3.0], [-1.0, 0.5, 0.0, 2.0]])
MEMORISED, ORDINARY = torch.tensor([4.0, 1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0, 1.0])


def _site(weight: Tensor, name: str = "blocks.0.ff.net.2") -> WeightSite:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data.copy_(weight)
    return WeightSite(name, SiteKind.FEED_FORWARD, layer, transposed=False)


def test_each_rule_on_paper() -> None:
    # |W| * N_mem: 4 4 4 3 and 4 0.5 0 2; |W| * (N_mem - N_ord): 3 -4 2 0 and 3 -0.5 0 0.
    assert wanda(WEIGHT, MEMORISED, 0.5)[1].tolist() == [True, False, False, True]
    assert wanda_gate(WEIGHT, MEMORISED, ORDINARY, 0.5)[1].tolist() == [True, False, False, False]
    assert wanda_diff(WEIGHT, MEMORISED, ORDINARY, 0.5).tolist() == [
        [True, False, True, False], [True, False, False, False],
    ]  # fmt: skip
    assert magnitude(WEIGHT, 0.5).tolist() == [
        [False, True, False, True], [True, False, False, True],
    ]  # fmt: skip


@given(share=st.integers(0, 100), inputs=st.integers(1, 200))
def test_a_share_is_rounded_down_and_exact(share: int, inputs: int) -> None:
    score = torch.rand(3, inputs, generator=torch.Generator().manual_seed(1))
    counts = top_of_rows(score, share / 100).sum(dim=1).tolist()
    assert counts == [share * inputs // 100] * 3


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="give 0 to 1"):
        top_of_rows(WEIGHT, share)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1_000), share=st.floats(0.01, 0.9))
def test_matched_masks_hold_as_many_of_each_size(seed: int, share: float) -> None:
    weight = torch.randn(12, 30, generator=torch.Generator().manual_seed(seed))
    mask = magnitude(weight, share)
    drawn = random_matched(mask, weight, seed)
    order = weight.abs().flatten().argsort()
    per_decile = mask.flatten()[order].reshape(10, -1).sum(dim=1)
    assert torch.equal(drawn.flatten()[order].reshape(10, -1).sum(dim=1), per_decile)


def test_matched_masks_are_drawn_anew_by_seed() -> None:
    weight = torch.randn(12, 30, generator=torch.Generator().manual_seed(3))
    site, mask = _site(weight), WeightMasks({"blocks.0.ff.net.2": random_mask((12, 30), 60, 0)})
    first, second = (matched_masks([site], mask, seed) for seed in (0, 1))
    assert first.pruned == second.pruned == 60
    assert not torch.equal(first.masks[site.name], second.masks[site.name])
    assert torch.equal(first.masks[site.name], matched_masks([site], mask, 0).masks[site.name])


def test_the_magnitude_control_prunes_as_many_in_each_row() -> None:
    site, mask = _site(WEIGHT), WeightMasks({"blocks.0.ff.net.2": WEIGHT > 1.5})
    control = magnitude_masks([site], mask).masks[site.name]
    assert control.tolist() == [[False, True, False, True], [False, False, False, True]]


def test_groups_of_rows_give_their_union() -> None:
    site = _site(WEIGHT)
    squares = torch.tensor([
        [[16.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 16.0]], [[1.0, 1.0, 1.0, 1.0]] * 2
    ], dtype=torch.float64)  # fmt: skip
    norms = InputNorms({site.name: squares}, torch.ones(2, 2, dtype=torch.int64))
    found = masks_by_norms(MaskRule.WANDA_DIFF, [site], 0.25, norms, [0], [1])
    assert found.masks[site.name].tolist() == [[True, False, False, True]] * 2


def test_a_rule_without_norms_is_refused() -> None:
    site = _site(WEIGHT)
    norms = InputNorms({site.name: torch.ones(2, 1, 4)}, torch.ones(2, 1, dtype=torch.int64))
    with pytest.raises(ConfigurationError, match="does not go by norms"):
        masks_by_norms(MaskRule.GRADIENT, [site], 0.25, norms, [0], [1])
