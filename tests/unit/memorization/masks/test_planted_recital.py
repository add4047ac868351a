"""Where memorised sequences run through known weights, exactly those are found and pruned."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.memorization.masks.input_norms import InputNorms, recording
from auditor.memorization.masks.mask_rules import MaskRule, masks_by_norms
from auditor.memorization.masks.sensitivity import gradient_masks
from auditor.memorization.masks.weight_masks import WeightMasks, overlap, pruned
from auditor.memorization.masks.weight_sites import WeightSite, find_sites
from tests.models.planted_recital import PlantedRecital, planted_recital


def _norms(planted: PlantedRecital, sites: tuple[WeightSite, ...]) -> InputNorms:
    """Memorised chains first, then ordinary ones."""
    chains = [*planted.memorised, *planted.ordinary]
    with recording(sites, len(chains)) as recorder, torch.inference_mode():
        for number, chain in enumerate(chains):
            recorder.expect([number])
            planted.model(input_ids=torch.tensor([chain[:-1]]))
    return recorder.finished()


def _recited(planted: PlantedRecital, chain: tuple[int, ...]) -> list[bool]:
    """Whether each token is the likeliest one after those before it."""
    with torch.inference_mode():
        logits = planted.model(input_ids=torch.tensor([chain[:-1]])).logits[0]
    return [int(row.argmax()) == token and float(row.max()) > 0
            for row, token in zip(logits, chain[1:], strict=True)]  # fmt: skip


def _halves(planted: PlantedRecital) -> tuple[list[int], list[int]]:
    count = len(planted.memorised)
    return list(range(count)), list(range(count, 2 * count))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000), rule=st.sampled_from([MaskRule.WANDA_GATE, MaskRule.WANDA_DIFF])
)
def test_exactly_the_planted_weights_are_located(seed: int, rule: MaskRule) -> None:
    planted = planted_recital(seed)
    sites = find_sites(planted.model)
    found = masks_by_norms(rule, sites, 0.05, _norms(planted, sites), *_halves(planted))
    assert overlap(found, WeightMasks(planted.carried_by)) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_gradients_locate_exactly_the_planted_weights(seed: int) -> None:
    planted = planted_recital(seed)
    sites = find_sites(planted.model)

    def losses(chains: tuple[tuple[int, ...], ...]) -> list[object]:
        def loss(chain: tuple[int, ...]) -> object:
            ids = torch.tensor([chain])
            return lambda: planted.model(input_ids=ids, labels=ids).loss

        return [loss(chain) for chain in chains]

    found = gradient_masks(sites, 0.05, losses(planted.memorised), losses(planted.ordinary))  # type: ignore[arg-type]
    assert overlap(found, WeightMasks(planted.carried_by)) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_pruning_them_ends_every_recital_and_leaves_ordinary_text_as_it_was(seed: int) -> None:
    planted = planted_recital(seed)
    sites = find_sites(planted.model)
    assert all(all(_recited(planted, chain)) for chain in (*planted.memorised, *planted.ordinary))
    before = {name: value.clone() for name, value in planted.model.state_dict().items()}
    with pruned(sites, WeightMasks(planted.carried_by)):
        assert not any(any(_recited(planted, chain)) for chain in planted.memorised)
        assert all(all(_recited(planted, chain)) for chain in planted.ordinary)
    after = planted.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_mask_of_one_chain_says_nothing_of_another() -> None:
    planted = planted_recital(1)
    sites = find_sites(planted.model)
    norms = _norms(planted, sites)
    ordinary = _halves(planted)[1]
    first, second = (
        masks_by_norms(MaskRule.WANDA_DIFF, sites, 0.05, norms, [number], ordinary)
        for number in (0, 1)
    )
    assert overlap(first, second) == 0.0
    with pruned(sites, first):
        assert not any(_recited(planted, planted.memorised[0]))
        assert all(_recited(planted, planted.memorised[1]))
