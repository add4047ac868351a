"""Rules that score the weights of a layer and choose which are pruned.

Each takes a weight [outputs, inputs] and gives a boolean mask of that shape. `wanda_gate` is the
rule of Chavhan et al. 2024 (arXiv 2406.18566) as its code has it, after Wanda (Sun et al. 2023,
arXiv 2306.11695); `wanda_diff` ranks by the difference of the two sets. `magnitude`, `random_mask`
and `random_matched` know nothing of memorised items: they are controls.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from math import floor
from typing import Final

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.memorization.masks.input_norms import InputNorms
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import WeightSite

DECILES: Final = 10


class MaskRule(StrEnum):
    """How weights are scored."""

    WANDA_GATE = "wanda_gate"
    WANDA_DIFF = "wanda_diff"
    WANDA = "wanda"
    GRADIENT = "gradient"
    LEARNED = "learned"


def norm_score(weight: Tensor, memorised: Tensor, ordinary: Tensor | None = None) -> Tensor:
    """abs(W) times how strongly memorised prompts drive the inputs, [outputs, inputs].

    Args:
        weight: [outputs, inputs].
        memorised: Norms of the inputs, [inputs].
        ordinary: Those of ordinary prompts, which are taken off; None for no look at them.
    """
    return weight.abs() * (memorised if ordinary is None else memorised - ordinary)


def wanda(weight: Tensor, memorised: Tensor, share: float) -> Tensor:
    """In each row the top `share` of abs(W) * N_memorised; no look at ordinary prompts.

    Args:
        weight: [outputs, inputs].
        memorised: Norms of the inputs, [inputs].
        share: Of each row, in [0, 1].
    """
    return top_of_rows(norm_score(weight, memorised), share)


def wanda_gate(weight: Tensor, memorised: Tensor, ordinary: Tensor, share: float) -> Tensor:
    """`wanda`, of which those weights stay masked whose input ordinary prompts drive less.

    Source: github.com/ruchikachavhan/concept-prune; share 0.01 there.
    """
    return wanda(weight, memorised, share) & (norm_score(weight, memorised, ordinary) > 0)


def wanda_diff(weight: Tensor, memorised: Tensor, ordinary: Tensor, share: float) -> Tensor:
    """In each row the top `share` of abs(W) * (N_memorised - N_ordinary), where that is positive.

    A row may run dry, so the true density can be lower.
    """
    return positive_of_rows(norm_score(weight, memorised, ordinary), share)


def magnitude(weight: Tensor, share: float) -> Tensor:
    """In each row the largest weights: the control that a repair has to beat."""
    return top_of_rows(weight.abs(), share)


def random_mask(shape: Sequence[int], count: int, seed: int) -> Tensor:
    """So many places of a [outputs, inputs] mask, all equally likely."""
    source = torch.Generator().manual_seed(seed)
    flat = torch.zeros(shape[0] * shape[1], dtype=torch.bool)
    flat[torch.randperm(len(flat), generator=source)[:count]] = True
    return flat.reshape(shape[0], shape[1])


def random_matched(mask: Tensor, weight: Tensor, seed: int) -> Tensor:
    """A random mask with as many weights of each decile of abs(W) as the given one."""
    source = torch.Generator().manual_seed(seed)
    order = weight.abs().flatten().argsort()
    chosen = mask.flatten()[order]
    drawn = torch.zeros_like(chosen)
    ends = [round(part * len(order) / DECILES) for part in range(DECILES + 1)]
    for start, end in pairwise(ends):
        count = int(chosen[start:end].sum())
        drawn[start + torch.randperm(end - start, generator=source)[:count]] = True
    found = torch.zeros_like(chosen)
    found[order] = drawn
    return found.reshape(mask.shape)


def top_of_rows(score: Tensor, share: float) -> Tensor:
    """The `floor(share * inputs)` highest scores of each row.

    Raises:
        ConfigurationError: The share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigurationError(f"a share of {share:g} of a row; give 0 to 1")
    # Shares such as 0.29 of 100 must not lose one to rounding.
    count = floor(share * score.shape[1] + 1e-9)
    mask = torch.zeros(score.shape, dtype=torch.bool)
    return mask.scatter_(1, score.cpu().topk(count, dim=1).indices, value=True)


def positive_of_rows(score: Tensor, share: float) -> Tensor:
    """`top_of_rows`, of which those stay whose score is above 0; where the scores are."""
    return top_of_rows(score, share).to(score.device) & (score > 0)


def masks_by_norms(
    rule: MaskRule, sites: Sequence[WeightSite], share: float, norms: InputNorms,
    memorised: Sequence[int], ordinary: Sequence[int],
) -> WeightMasks:  # fmt: skip
    """Masks of a rule that needs norms; over groups of rows, such as steps, their union.

    Args:
        rule: `wanda_gate`, `wanda_diff` or `wanda`.
        sites: The layers.
        share: Of each row.
        norms: Of all prompts.
        memorised: Numbers of the memorised prompts.
        ordinary: Numbers of the ordinary ones.

    Raises:
        ConfigurationError: Another rule, or a share out of range.
    """
    found: dict[str, Tensor] = {}
    for site in sites:
        weight = site.weight.detach().float().cpu()
        high = norms.norms(site.name, memorised).float()
        low = norms.norms(site.name, ordinary).float()
        groups = [_by(rule, weight, *pair, share) for pair in zip(high, low, strict=True)]
        found[site.name] = torch.stack(groups).any(dim=0)
    return WeightMasks(found)


def _by(rule: MaskRule, weight: Tensor, high: Tensor, low: Tensor, share: float) -> Tensor:
    if rule is MaskRule.WANDA:
        return wanda(weight, high, share)
    if rule is MaskRule.WANDA_GATE:
        return wanda_gate(weight, high, low, share)
    if rule is MaskRule.WANDA_DIFF:
        return wanda_diff(weight, high, low, share)
    raise ConfigurationError(f"{rule} does not go by norms; use wanda_gate, wanda_diff or wanda")


def magnitude_masks(sites: Sequence[WeightSite], masks: WeightMasks) -> WeightMasks:
    """The largest weights of the same layers, in each row as many as the given masks prune."""
    found: dict[str, Tensor] = {}
    for site in sites:
        mask = masks.masks[site.name]
        ranks = site.weight.detach().abs().cpu().argsort(dim=1, descending=True).argsort(dim=1)
        found[site.name] = ranks < mask.sum(dim=1, keepdim=True)
    return WeightMasks(found)


def matched_masks(sites: Sequence[WeightSite], masks: WeightMasks, seed: int) -> WeightMasks:
    """Random masks with as many weights of each size in each layer; see `random_matched`."""
    return WeightMasks({
        site.name: random_matched(
            masks.masks[site.name], site.weight.detach().float().cpu(), seed * 10_007 + number
        )
        for number, site in enumerate(sites)
    })  # fmt: skip
