"""Masks from scores of weights: single weights, or whole neurons.

A neuron is an input of a layer, a column of its weight; at the last matrix of a feed-forward block
that is what the field calls a neuron. Its score is the sum of those of its column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.memorization.masks.input_norms import InputNorms
from auditor.memorization.masks.mask_rules import MaskRule, norm_score, positive_of_rows
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import WeightSite


def masks_by_scores(
    scores: Mapping[str, Tensor], share: float, *, neurons: bool = False
) -> WeightMasks:
    """Masks of the highest scores, of those alone that are above 0.

    Args:
        scores: Name of the layer: [outputs, inputs].
        share: Of each row, or of each layer's neurons.
        neurons: Whether whole columns are masked.

    Raises:
        ConfigurationError: The share is not in [0, 1].
    """
    choose = top_neurons if neurons else positive_of_rows
    return WeightMasks({name: choose(score.cpu(), share) for name, score in scores.items()})


def top_neurons(score: Tensor, share: float) -> Tensor:
    """The `floor(share * inputs)` columns of the highest sums above 0, masked whole.

    Args:
        score: [outputs, inputs].
        share: Of the columns.

    Raises:
        ConfigurationError: The share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigurationError(f"a share of {share:g} of the neurons; give 0 to 1")
    total = score.sum(dim=0)
    chosen = torch.zeros(score.shape[1], dtype=torch.bool)
    chosen[total.topk(floor(share * score.shape[1] + 1e-9)).indices] = True
    return (chosen & (total > 0)).expand(score.shape).clone()


def norm_scores(
    rule: MaskRule, sites: Sequence[WeightSite], norms: InputNorms,
    memorised: Sequence[int], ordinary: Sequence[int],
) -> dict[str, Tensor]:  # fmt: skip
    """The scores of `wanda` or `wanda_diff`, [outputs, inputs] for each layer.

    Args:
        rule: One of the two; `wanda_gate` chooses twice and has no one score.
        sites: The layers.
        norms: Of all prompts; of groups of rows the mean.
        memorised: Numbers of the memorised prompts.
        ordinary: Numbers of the ordinary ones.

    Raises:
        ConfigurationError: Another rule.
    """
    if rule not in (MaskRule.WANDA, MaskRule.WANDA_DIFF):
        raise ConfigurationError(f"{rule} gives no score of norms; use wanda_diff or wanda")
    found = {}
    for site in sites:
        high, low = (
            norms.norms(site.name, some).mean(dim=0).float() for some in (memorised, ordinary)
        )
        weight = site.weight.detach().float().cpu()
        found[site.name] = norm_score(weight, high, low if rule is MaskRule.WANDA_DIFF else None)
    return found


def contrast_effects(
    memorised: Mapping[str, Tensor], ordinary: Mapping[str, Tensor], *, neurons: bool = False
) -> dict[str, Tensor]:
    """Scores of effects on memorised items, those on ordinary ones of either sign taken off.

    Args:
        memorised: Name of the layer: what each weight does for memorised items, [outputs, inputs].
        ordinary: The same of ordinary ones.
        neurons: Whether the weights of a column are taken together first: their effects on
            ordinary items may cancel, and then the neuron does nothing for these.
    """
    found = {}
    for name, high in memorised.items():
        low = ordinary[name]
        found[name] = (
            (high.mean(dim=0) - low.mean(dim=0).abs()).expand(high.shape) if neurons
            else high - low.abs()
        )  # fmt: skip
    return found
