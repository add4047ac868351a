"""Masks of scores: single weights by row, neurons by the sums of their columns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ConfigurationError
from auditor.memorization.masks.input_norms import InputNorms
from auditor.memorization.masks.learned_masks import MaskTraining, learn_masks
from auditor.memorization.masks.mask_rules import MaskRule, masks_by_norms
from auditor.memorization.masks.score_masks import (
    contrast_effects,
    masks_by_scores,
    norm_scores,
    top_neurons,
)
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite, find_sites
from tests.models.planted_recital import planted_recital
from tests.unit.memorization.masks.test_learned_masks import _loss

SCORE = torch.tensor([[1.0, -4.0, 2.0, 3.0], [-1.0, 5.0, 0.0, -2.0]])


def test_each_kind_on_paper() -> None:
    """Columns sum to 0, 1, 2 and 1; a sum of 0 is not above 0."""
    by_row = masks_by_scores({"layer": SCORE}, 0.5)
    assert by_row.masks["layer"].tolist() == [
        [False, False, True, True], [False, True, False, False],
    ]  # fmt: skip
    assert top_neurons(SCORE, 0.25).tolist() == [[False, False, True, False]] * 2
    assert top_neurons(SCORE, 1.0).tolist() == [[False, True, True, True]] * 2


@given(share=st.integers(0, 100), inputs=st.integers(1, 200))
def test_a_share_of_neurons_is_rounded_down_and_exact(share: int, inputs: int) -> None:
    score = torch.rand(3, inputs, generator=torch.Generator().manual_seed(1)) + 0.1
    assert int(top_neurons(score, share / 100)[0].sum()) == share * inputs // 100


def test_effects_on_ordinary_items_are_taken_off_whatever_their_sign() -> None:
    """Those of a column may cancel before."""
    high, low = {"layer": torch.ones(2, 2)}, {"layer": torch.tensor([[3.0, 0.5], [-3.0, 0.5]])}
    assert contrast_effects(high, low)["layer"].tolist() == [[-2.0, 0.5], [-2.0, 0.5]]
    assert contrast_effects(high, low, neurons=True)["layer"].tolist() == [[1.0, 0.5]] * 2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1_000), rule=st.sampled_from([MaskRule.WANDA_DIFF, MaskRule.WANDA]))
def test_scores_give_the_masks_of_their_rule(seed: int, rule: MaskRule) -> None:
    """Where one group of rows was measured."""
    source = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(12, 5, bias=False)
    layer.weight.data.copy_(torch.randn(5, 12, generator=source))
    site = WeightSite("blocks.0.ff.net.2", SiteKind.FEED_FORWARD, layer, transposed=False)
    squares = torch.rand(6, 1, 12, dtype=torch.float64, generator=source)
    norms = InputNorms({site.name: squares}, torch.ones(6, 1, dtype=torch.int64))
    found = masks_by_scores(norm_scores(rule, [site], norms, range(3), range(3, 6)), 0.25)
    expected = masks_by_norms(rule, [site], 0.25, norms, range(3), range(3, 6))
    assert torch.equal(found.masks[site.name], expected.masks[site.name])


def test_what_has_no_score_is_refused() -> None:
    norms = InputNorms({}, torch.ones(2, 1, dtype=torch.int64))
    with pytest.raises(ConfigurationError, match="wanda_gate gives no score"):
        norm_scores(MaskRule.WANDA_GATE, [], norms, [0], [1])
    with pytest.raises(ConfigurationError, match=r"a share of 1.5 of the neurons; give 0 to 1"):
        top_neurons(SCORE, 1.5)


@pytest.mark.parametrize("seed", range(2))
def test_neurons_are_learned_whole(seed: int) -> None:
    """Of those that carry anything, exactly those that carry memorised links."""
    planted = planted_recital(seed)
    sites = find_sites(planted.model)
    training = MaskTraining(share=0.3, steps=12, rate=0.1, neurons=True)
    found = learn_masks(sites, lambda step: _loss(planted), training)
    for site in sites:
        live = (site.weight != 0).any(dim=0)
        carrying = planted.carried_by[site.name].any(dim=0)
        assert torch.equal(found.neurons[site.name] & live, carrying)
        assert torch.equal(found.masks[site.name], found.neurons[site.name].expand(
            site.outputs, site.inputs))  # fmt: skip


def test_neurons_begin_with_the_sums_of_their_scores() -> None:
    planted = planted_recital(0)
    sites = find_sites(planted.model)
    start = {site.name: torch.rand(site.outputs, site.inputs) for site in sites}
    training = MaskTraining(share=0.1, steps=1, rate=1e-6, neurons=True)
    found = learn_masks(sites, lambda step: _loss(planted), training, start)
    for site in sites:
        best = start[site.name].sum(dim=0).topk(site.inputs // 10).indices
        assert sorted(found.neurons[site.name].nonzero()[:, 0].tolist()) == sorted(best.tolist())
