"""Weights that carry memorised text set to zero, where the text is known to the word.

    python benchmarks/memorization_pruning.py --out canaries --seeds 0 1 2

On the models of `memorization_language.py`: several rules, sets of layers and shares, chosen on
half of the first seed's canaries and reported on the others, beside masks that know nothing of
canaries, and attacked.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from canary_setting import Setting, asked_settings
from numpy.typing import NDArray

from auditor.fixes.language_pruning import DEMANDS, LanguagePruning, LanguageStudy
from auditor.fixes.mask_grid import MaskSetting
from auditor.fixes.pruning import locate
from auditor.fixes.pruning_study import Candidate, Recovery, Split
from auditor.intervals import Share, wilson_interval
from auditor.memorization.language.subspace import language_norms
from auditor.memorization.masks.mask_rules import MaskRule, magnitude_masks, matched_masks
from auditor.memorization.masks.score_masks import masks_by_scores, norm_scores
from auditor.memorization.masks.shared_subspace import measure_shared_subspace
from auditor.memorization.masks.weight_masks import WeightMasks, pruned
from auditor.memorization.masks.weight_sites import SiteKind, find_sites

Family = tuple[MaskRule, bool]
"""A rule, and whether it prunes whole neurons."""
Chosen = Mapping[Family, Candidate]
FAMILIES: tuple[Family, ...] = (
    (MaskRule.WANDA_GATE, False), (MaskRule.WANDA_DIFF, False), (MaskRule.GRADIENT, False),
    (MaskRule.LEARNED, False), (MaskRule.WANDA_DIFF, True), (MaskRule.GRADIENT, True),
    (MaskRule.LEARNED, True),
)  # fmt: skip
FEED_FORWARD, ATTENTION = (SiteKind.FEED_FORWARD,), (SiteKind.ATTENTION,)
PRUNED_LAYERS = (FEED_FORWARD, ATTENTION, FEED_FORWARD + ATTENTION)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)
LEARNED_LAYERS = (FEED_FORWARD, FEED_FORWARD + ATTENTION)
LEARNED_SHARES = {False: (0.02, 0.05, 0.1), True: (0.05, 0.1, 0.2)}
"""Of single weights, and of whole neurons."""
ATTACKED: tuple[Family, ...] = (
    (MaskRule.WANDA_DIFF, False), (MaskRule.WANDA_DIFF, True), (MaskRule.LEARNED, False),
)  # fmt: skip
"""Families that have controls, are located apart, and are attacked: the others cost as much."""
MATCHED = 3


def main() -> None:
    """Every candidate on the first seed; what is chosen by it, with controls and attacks, on all.

    Attacks are made on the other seeds, or on the first if there is no other.
    """
    settings = asked_settings(str(__doc__))
    first, *others = settings
    chosen = {family: choose_candidate(first, family) for family in FAMILIES}
    found = {setting: show_chosen(setting, chosen, first) for setting in settings}
    if others:
        print(f"strict extraction on {len(others)} seeds that nothing was chosen on")
        for family, candidate in chosen.items():
            hits, total = (sum(getattr(found[each][family], what) for each in others)
                           for what in ("hits", "total"))  # fmt: skip
            within = wilson_interval(hits, total)
            print(f"{candidate.name}: {hits} of {total} ({within.lower:.3f} to {within.upper:.3f})")
    for setting in others or [first]:
        show_recovery(setting, chosen)


@cache
def study_of(setting: Setting, family: Family) -> LanguageStudy:
    """The study of a seed: canaries that it gives, ordinary notes, and unread documents."""
    rule, neurons = family
    learned = rule is MaskRule.LEARNED
    how = LanguagePruning(
        rules=(rule,),
        neurons=neurons,
        layers=LEARNED_LAYERS if learned else PRUNED_LAYERS,
        shares=LEARNED_SHARES[neurons] if learned else SHARES,
    )
    return LanguageStudy(setting.model, setting.items, how)


@cache
def masks_of(setting: Setting, family: Family, candidate: Candidate) -> WeightMasks:
    """Masks of a candidate's rule, layers and share, of all canaries of a seed."""
    return study_of(setting, family).masks(MaskSetting.read(candidate.name))


def choose_candidate(setting: Setting, family: Family) -> Candidate:
    """Print what every candidate of a family does on the half that is chosen by; the best."""
    started = time.process_time()
    study = study_of(setting, family)
    located = locate(study, DEMANDS)
    print(f"{family[0]}, {'whole neurons' if family[1] else 'single weights'}, seed "
          f"{setting.seed}, {len(located.start.rates)} canaries to choose by, "
          f"{len(located.start.costs)} documents; "
          f"{time.process_time() - started:.0f} s of CPU")  # fmt: skip
    print("| layers, share | density | strict extraction | perplexity |")
    print("|---|---|---|---|")
    for candidate, outcome in located.tried:
        mark = " (chosen)" if candidate is located.chosen else ""
        _, _, name = candidate.name.partition(", ")
        print(f"| {name}{mark} | {candidate.masks.density:.3f} | {outcome.rates.mean():.3f} | "
              f"{study.wording.loss(located.start, outcome):+.1%} |", flush=True)  # fmt: skip
    return located.chosen


def show_chosen(setting: Setting, chosen: Chosen, first: Setting) -> dict[Family, Share]:
    """The chosen setting of each family located anew in this seed's model, beside controls.

    Of the seed that settings are chosen on the other half is reported, of others all canaries.
    Returns strict extraction of each family.
    """
    splits = [Split.REPORT] if setting is first else list(Split)
    asked = sum(len(setting.items.of(split)) for split in splits)
    print(f"seed {setting.seed}, {asked} of {len(setting.items.memorised)} canaries and "
          f"{len(setting.items.held_out)} documents to report on, settings chosen on seed "
          f"{first.seed}")  # fmt: skip
    print("| mask | density | strict extraction | near, of one half | perplexity | no notes | "
          "fresh notes | of one half: itself, the other |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    found: dict[Family, Share] = {}
    for family, candidate in chosen.items():
        study, masks = study_of(setting, family), masks_of(setting, family, candidate)
        before, notes = study.measure(Split.REPORT), setting.nats_beside()
        sites = find_sites(setting.model.model, MaskSetting.read(candidate.name).kinds)
        rows = {candidate.name: masks}
        if family in ATTACKED:
            rows["the largest weights"] = magnitude_masks(sites, masks)
            rows |= {f"matched random weights {seed + 1}": matched_masks(sites, masks, seed)
                     for seed in range(MATCHED)}  # fmt: skip
        for name, mask in rows.items():
            with pruned(sites, mask):
                after, beside = study.measure(Split.REPORT), setting.nats_beside()
                rates = np.concatenate([study.measure(split).rates for split in splits])
            found.setdefault(family, Share(int(rates.sum()), len(rates)))
            both = mask is masks and family in ATTACKED
            apart = crossed(setting, study, candidate) if both else ""
            rises = [f"{np.expm1(b - a):+.1%}" for a, b in zip(notes, beside, strict=True)]
            print(f"| {name} | {mask.density:.3f} | {rates.mean():.3f} | "
                  f"{after.also['near extraction']:.3f} | "
                  f"{study.wording.loss(before, after):+.1%} | {' | '.join(rises)} | {apart} |",
                  flush=True)  # fmt: skip
    show_overlap(setting)
    return found


def crossed(setting: Setting, study: LanguageStudy, candidate: Candidate) -> str:
    """Strict extraction of one half and of the other under masks of the one, both ways round."""
    own: list[NDArray[np.float64]] = []
    other: list[NDArray[np.float64]] = []
    how = MaskSetting.read(candidate.name)
    sites = find_sites(setting.model.model, how.kinds)
    for half in Split:
        masks = study.masks(how, setting.items.of(half))
        with pruned(sites, masks):
            for split in Split:
                (own if split is half else other).append(study.measure(split).rates)
    return f"{np.concatenate(own).mean():.3f}, {np.concatenate(other).mean():.3f}"


def show_overlap(setting: Setting) -> None:
    """Whether canaries share one subspace, by the difference of norms."""
    sites = find_sites(setting.model.model, FEED_FORWARD)
    memorised, ordinary = setting.items.memorised, setting.items.ordinary
    norms = language_norms(setting.model, sites, [*memorised, *ordinary])
    pairs = [(at, len(memorised) + at) for at in range(min(len(memorised), len(ordinary)))]
    for neurons, share in ((False, 0.1), (True, 0.2)):

        def make(
            high: Sequence[int], low: Sequence[int], neurons: bool = neurons, share: float = share
        ) -> WeightMasks:
            scores = norm_scores(MaskRule.WANDA_DIFF, sites, norms, high, low)
            return masks_by_scores(scores, share, neurons=neurons)

        found = measure_shared_subspace(make, pairs)
        print(f"masks of disjoint halves, {'neurons' if neurons else 'weights'}, share {share:g}: "
              f"overlap {found.mean:.3f}, chance {found.chance:.3f}, labels swapped "
              f"{statistics.mean(found.shuffled):.3f}, p {found.p_value:.3f}")  # fmt: skip


def show_recovery(setting: Setting, chosen: Chosen) -> None:
    """What attacks bring back from the untouched model and from pruned ones, controls behind."""
    print(f"seed {setting.seed}: attacks, memorised canaries that come back (and ones never seen)")
    table: dict[str, list[Recovery]] = {"untouched": study_of(setting, ATTACKED[0]).attacks()}
    for family in ATTACKED:
        candidate = chosen[family]
        sites = find_sites(setting.model.model, MaskSetting.read(candidate.name).kinds)
        with pruned(sites, masks_of(setting, family, candidate)):
            table[candidate.name] = study_of(setting, family).attacks()
    print("| attack | " + " | ".join(table) + " |")
    print("|" + "---|" * (len(table) + 1))
    for row in zip(*table.values(), strict=True):
        cells = [f"{each.rates.mean():.2f} ({each.control.mean():.2f})" for each in row]
        print(f"| {row[0].attack} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
