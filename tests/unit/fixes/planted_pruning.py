"""A planted recital as a study of pruning: whole neurons can be told apart, single weights cannot.

Every row of a layer has one weight at most, so the largest weights of the rows that a mask of
single weights prunes are those that it prunes: nothing is better than that control. Whole neurons
leave ordinary chains as they are, and the largest weights of as many in every row do not.
"""

from __future__ import annotations

from pathlib import Path

from auditor.fixes.language_items import LanguageItems
from auditor.fixes.language_pruning import LanguagePruning, LanguageStudy
from auditor.fixes.language_recovery import LanguageAttacks
from auditor.memorization.language.attack import RelearningOptions, SoftPromptOptions
from auditor.memorization.masks.learned_masks import MaskTraining
from auditor.memorization.masks.mask_rules import MaskRule
from auditor.memorization.masks.weight_sites import SiteKind
from tests.models.recital_folder import RecitalFolder, write_recital

ATTACKS = LanguageAttacks(
    shifts=(1, 2), draws=10, soft_prompt=SoftPromptOptions(tokens=2, steps=2),
    relearning=(RelearningOptions(steps=2),),
)  # fmt: skip
NEURONS = LanguagePruning(
    rules=(MaskRule.WANDA_DIFF,), layers=((SiteKind.FEED_FORWARD,),), shares=(0.1, 0.6),
    neurons=True, training=MaskTraining(steps=6, rate=0.1), attacks=ATTACKS,
)  # fmt: skip


def items_of(recital: RecitalFolder) -> LanguageItems:
    """Half of the ordinary chains to choose by, the others to report on."""
    return LanguageItems(
        tuple(recital.memorised), tuple(recital.ordinary), tuple(recital.texts[:4]),
        tuple(recital.texts[4:]), tuple(recital.unseen),
    )  # fmt: skip


def planted_study(
    folder: Path, how: LanguagePruning = NEURONS, seed: int = 0
) -> tuple[RecitalFolder, LanguageStudy]:
    """A recital that is written to a folder, and its study."""
    recital = write_recital(folder, seed)
    return recital, LanguageStudy(recital.model, items_of(recital), how)
