"""Canaries of a trained model: what pruning suppresses, what it costs, and what comes back."""

from __future__ import annotations

import pytest

from auditor.fixes.language_pruning import DEMANDS, LanguagePruning, LanguageStudy
from auditor.fixes.language_recovery import LanguageAttacks
from auditor.fixes.mask_grid import MaskSetting
from auditor.fixes.pruning_study import Candidate, Outcome, Split
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.attack import RelearningOptions
from auditor.memorization.masks.mask_rules import MaskRule, magnitude_masks, matched_masks
from auditor.memorization.masks.weight_masks import WeightMasks, pruned
from auditor.memorization.masks.weight_sites import SiteKind
from tests.models.canary_items import canary_items
from tests.models.canary_lm import plant, trained_canary

BOTH = (SiteKind.FEED_FORWARD, SiteKind.ATTENTION)
ATTACKS = LanguageAttacks(
    shifts=(8,), without_rarest=False, draws=1_000, soft_prompt=None,
    relearning=(RelearningOptions(steps=20),),
)  # fmt: skip


@pytest.fixture(scope="module")
def study() -> LanguageStudy:
    """Of the model of seed 0; only blocks change it."""
    model = CausalLM.open(trained_canary())
    how = LanguagePruning((MaskRule.WANDA_DIFF,), (BOTH,), (0.1,), attacks=ATTACKS)
    return LanguageStudy(model, canary_items(model, plant(0), unread=60), how)


@pytest.fixture(scope="module")
def candidate(study: LanguageStudy) -> Candidate:
    """A tenth of each row by the difference of norms."""
    [found] = study.candidates()
    return found


def measured(study: LanguageStudy, candidate: Candidate, masks: WeightMasks) -> Outcome:
    with pruned(candidate.sites, masks):
        return study.measure(Split.REPORT)


def test_nine_in_ten_canaries_are_suppressed_at_a_twentieth_of_the_perplexity(
    study: LanguageStudy, candidate: Candidate
) -> None:
    """On canaries and documents that nothing was chosen by."""
    before = study.measure(Split.REPORT)
    after = measured(study, candidate, candidate.masks)
    assert before.rates.all()
    assert len(before.rates) > 15
    assert after.rates.mean() <= DEMANDS.most_rate
    assert study.wording.loss(before, after) <= DEMANDS.most_loss


def test_masks_that_know_no_canary_cost_more_or_suppress_less(
    study: LanguageStudy, candidate: Candidate
) -> None:
    """The largest weights the one, matched random weights the other."""
    before = study.measure(Split.REPORT)
    after = measured(study, candidate, candidate.masks)
    largest = measured(study, candidate, magnitude_masks(candidate.sites, candidate.masks))
    drawn = measured(study, candidate, matched_masks(candidate.sites, candidate.masks, 0))
    loss = study.wording.loss(before, after)
    assert study.wording.loss(before, largest) > loss + 0.05
    assert drawn.rates.mean() > after.rates.mean() + 0.2


def test_canaries_share_a_subspace_more_than_chance_has_it(
    study: LanguageStudy, candidate: Candidate
) -> None:
    """Masks of one half reach into the other."""
    shared, *crossed = study.located_apart(candidate)
    assert shared.endswith("p 0.005)")
    assert len(crossed) == 2


def test_a_little_training_brings_canaries_back_and_no_others(
    study: LanguageStudy, candidate: Candidate
) -> None:
    """So the record calls them recoverable; other prefixes and draws bring few."""
    with pruned(candidate.sites, candidate.masks):
        longer, draws, _, same = study.attacks()
    assert longer.rates.mean() < 0.5
    assert draws.rates.mean() < 0.2
    assert same.attack.endswith("on the same spans")
    assert same.excess > 0.3
    assert same.control.mean() <= 0.1


@pytest.mark.slow
def test_learned_masks_suppress_at_less_cost(study: LanguageStudy, candidate: Candidate) -> None:
    """No more canaries come back, and ordinary text reads as it did."""
    before = study.measure(Split.REPORT)
    by_norms = measured(study, candidate, candidate.masks)
    learned = measured(study, candidate, study.masks(MaskSetting(MaskRule.LEARNED, BOTH, 0.1)))
    assert learned.rates.mean() <= by_norms.rates.mean()
    assert study.wording.loss(before, learned) < study.wording.loss(before, by_norms)
