"""A shared subspace is told from items that each have their own, and from none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from auditor.errors import ConfigurationError
from auditor.memorization.masks.input_norms import InputNorms
from auditor.memorization.masks.mask_rules import MaskRule, masks_by_norms
from auditor.memorization.masks.shared_subspace import SharedSubspace, measure_shared_subspace
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite

PAIRS, INPUTS = 12, 60


def _measured(drive: str) -> SharedSubspace:
    """Memorised prompts drive the same inputs, an input of their own each, or none."""
    source = torch.Generator().manual_seed(4)
    squares = torch.rand(2 * PAIRS, 1, INPUTS, dtype=torch.float64, generator=source)
    for number in range(PAIRS):
        if drive == "shared":
            squares[number, 0, :6] += 3
        elif drive == "own":
            squares[number, 0, 3 * number : 3 * number + 3] += 30
    layer = torch.nn.Linear(INPUTS, 4, bias=False)
    torch.nn.init.uniform_(layer.weight, 0.5, 1.0)
    site = WeightSite("blocks.0.ff.net.2", SiteKind.FEED_FORWARD, layer, transposed=False)
    norms = InputNorms({site.name: squares}, torch.ones(2 * PAIRS, 1, dtype=torch.int64))

    def make(memorised: Sequence[int], ordinary: Sequence[int]) -> WeightMasks:
        return masks_by_norms(MaskRule.WANDA_DIFF, [site], 0.1, norms, memorised, ordinary)

    pairs = [(number, PAIRS + number) for number in range(PAIRS)]
    return measure_shared_subspace(make, pairs, splits=5, shuffles=99)


def test_a_shared_subspace_shows() -> None:
    found = _measured("shared")
    assert found.mean > 0.9
    assert found.p_value == 0.01
    assert found.chance == pytest.approx(0.1 / 1.9, abs=0.01)


@pytest.mark.parametrize("drive", ["own", "none"])
def test_items_of_their_own_and_nothing_at_all_share_none(drive: str) -> None:
    found = _measured(drive)
    assert found.p_value > 0.05
    assert found.mean < 0.3


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 4 pairs"):
        measure_shared_subspace(lambda high, low: WeightMasks({}), [(0, 1)] * 3)
