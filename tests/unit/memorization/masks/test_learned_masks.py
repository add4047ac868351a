"""Learned masks take what only memorised items need, and leave the network as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.memorization.masks.learned_masks import MaskTraining, learn_masks
from auditor.memorization.masks.weight_masks import WeightMasks, overlap
from auditor.memorization.masks.weight_sites import find_sites
from tests.models.planted_recital import PlantedRecital, planted_recital


def _loss(planted: PlantedRecital) -> Tensor:
    """Ordinary chains should stay likely and memorised ones become unlikely."""

    def nats(chains: tuple[tuple[int, ...], ...]) -> Tensor:
        ids = torch.tensor(chains)
        found: Tensor = planted.model(input_ids=ids, labels=ids).loss
        return found

    return nats(planted.ordinary) - nats(planted.memorised)


@pytest.mark.parametrize("seed", range(2))
def test_exactly_the_planted_weights_are_learned(seed: int) -> None:
    planted = planted_recital(seed)
    sites = find_sites(planted.model)
    before = {name: value.clone() for name, value in planted.model.state_dict().items()}
    training = MaskTraining(share=0.05, steps=12, rate=0.1)
    found = learn_masks(sites, lambda step: _loss(planted), training)
    carried = WeightMasks(planted.carried_by)
    live = WeightMasks({
        site.name: found.masks[site.name] & (site.weight != 0) for site in sites
    })  # fmt: skip
    assert overlap(live, carried) == 1.0
    after = planted.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_row_loses_its_share_at_most() -> None:
    planted = planted_recital(0)
    sites = find_sites(planted.model)
    start = {site.name: torch.rand(site.outputs, site.inputs) for site in sites}
    training = MaskTraining(share=0.1, steps=1, rate=1e-6)
    found = learn_masks(sites, lambda step: _loss(planted), training, start)
    for site in sites:
        assert int(found.masks[site.name].sum(dim=1).max()) <= site.inputs // 10


def test_what_cannot_be_learned_is_refused() -> None:
    planted = planted_recital(0)
    sites = find_sites(planted.model)
    with pytest.raises(ConfigurationError, match="at least one step"):
        learn_masks(sites, lambda step: _loss(planted), MaskTraining(steps=0))
    with pytest.raises(UnsupportedModel, match="give a lower rate"):
        learn_masks(sites, lambda step: _loss(planted) * float("nan"), MaskTraining(steps=2))
    assert not hasattr(sites[0].module, "parametrizations")
