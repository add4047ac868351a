"""Memorised digits: found, located, pruned, attacked, over several training seeds.

    python benchmarks/memorization_diffusion.py --out digits [--seeds 0 1 2] [--harden 300]

Trains the small diffusion models of `tests/models/train_digit_diffusion.py` where OUT does not hold
them (two to three minutes each on an idle core). The settings of the repair are chosen on the first
seed, among every rule, set of layers and share; on the others only that one and its rivals at the
same share are measured. Every row is a mask: what memorised captions give (8 images, 6 samples
each), what ordinary captions cost, and for some of them what the attack brings back, beside images
that were never memorised. Nothing is chosen by what is reported on. Last, the gate says whether it
accepts the repair, with training against the attack and without.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from auditor.fixes.diffusion_pruning import DiffusionPruning, DiffusionStudy
from auditor.fixes.mask_grid import MaskSetting
from auditor.fixes.pruning import PruningWork, choose, fix_by_pruning
from auditor.fixes.pruning_gate import PruningDemands
from auditor.fixes.pruning_study import Candidate, Outcome, Recovery, Split
from auditor.fixes.pruning_trials import MaskTrial
from auditor.memorization.detection import measure_detection
from auditor.memorization.diffusion.hardening import HardeningOptions
from auditor.memorization.diffusion.model import DiffusionModel
from auditor.memorization.diffusion.prompt_measures import Sampling, measure_prompts
from auditor.memorization.diffusion.recovery_attack import AttackOptions
from auditor.memorization.masks.learned_masks import MaskTraining
from auditor.memorization.masks.mask_rules import MaskRule, magnitude_masks, matched_masks
from auditor.memorization.masks.weight_masks import overlap, overlap_by_chance, pruned
from auditor.memorization.masks.weight_sites import SiteKind
from tests.models.digit_diffusion import GUIDANCE, SAMPLES, STEPS
from tests.models.digit_items import DigitReader, digit_items
from tests.models.train_digit_diffusion import train, write

RULES: Final = (MaskRule.WANDA_GATE, MaskRule.WANDA_DIFF, MaskRule.GRADIENT, MaskRule.LEARNED)
LAYERS: Final = (
    (SiteKind.FEED_FORWARD,), (SiteKind.CROSS_ATTENTION,),
    (SiteKind.FEED_FORWARD, SiteKind.CROSS_ATTENTION),
)  # fmt: skip
SHARES: Final = (0.03, 0.1)
ATTACKS: Final = (50, 500)
DEMANDS: Final = PruningDemands()
DETECTED: Final = 60


def study_of(folder: Path, seed: int, how: DiffusionPruning) -> DiffusionStudy:
    """The study of the model that was trained with a seed; trains it where it is not there."""
    if not folder.is_dir():
        write(folder, seed, train(seed))
    model = DiffusionModel.open(folder)
    return DiffusionStudy(model, digit_items(seed), how, DigitReader(seed))


def settings(harden: int, **changes: object) -> DiffusionPruning:
    """How everything is measured here."""
    how = DiffusionPruning(
        RULES, LAYERS, SHARES, Sampling(SAMPLES, STEPS, GUIDANCE, batch_size=256),
        training=MaskTraining(steps=300), attack_steps=ATTACKS,
        hardening=HardeningOptions(steps=harden, rate=1e-3, attack=AttackOptions(steps=30))
        if harden else None,
    )  # fmt: skip
    return replace(how, **changes)  # type: ignore[arg-type]


def sweep(study: DiffusionStudy) -> MaskSetting:
    """Every candidate on the split that is chosen by, and which one is."""
    start = study.measure(Split.CHOOSE)
    tried = []
    print("| mask | density | rate | similarity | errors |\n|---|---|---|---|---|")
    row("untouched", 0.0, start)
    for candidate in study.candidates():
        with pruned(candidate.sites, candidate.masks):
            outcome = study.measure(Split.CHOOSE)
        tried.append(MaskTrial(candidate, outcome))
        row(candidate.name, candidate.masks.density, outcome)
    best = choose(start, tried, study, DEMANDS).candidate.name
    print(f"\nchosen: {best}\n")
    return MaskSetting.read(best)


def row(name: str, density: float, outcome: Outcome) -> None:
    """One mask."""
    print(
        f"| {name} | {density:.3f} | {outcome.rates.mean():.3f} | "
        f"{outcome.also['similarity to the image']:.3f} | {outcome.costs.mean():.3f} |", flush=True,
    )  # fmt: skip


def rivals(study: DiffusionStudy, candidate: Candidate) -> Iterator[tuple[str, Candidate]]:
    """Masks of the same layers and as many weights that know nothing of the images."""
    sites, masks = candidate.sites, candidate.masks
    yield "the largest weights", replace(candidate, masks=magnitude_masks(sites, masks))
    for seed in range(3):
        yield (
            f"matched random {seed + 1}",
            replace(candidate, masks=matched_masks(sites, masks, seed)),
        )


def show_rivals(study: DiffusionStudy, candidate: Candidate) -> None:
    """What rivals of a mask do, and whether images share one subspace."""
    for name, rival in rivals(study, candidate):
        with pruned(rival.sites, rival.masks):
            row(f"{name} for {candidate.name}", rival.masks.density, study.measure(Split.REPORT))
    print(*(f"- {line}" for line in study.located_apart(candidate)), sep="\n", file=sys.stderr)


def told(name: str, recoveries: Sequence[Recovery]) -> None:
    """What attacks bring back, and the excess over images never memorised."""
    for each in recoveries:
        interval = each.interval
        print(
            f"| {name} | {each.attack} | {each.rates.mean():.3f} | {each.control.mean():.3f} | "
            f"{each.excess:+.3f} [{interval.lower:+.3f}, {interval.upper:+.3f}] |", flush=True,
        )  # fmt: skip


def detect(study: DiffusionStudy) -> None:
    """How well gaps of noise and agreement of seeds tell memorised captions from others."""
    items = study.items
    ordinary = [*items.ordinary, *items.held_out][:DETECTED]
    memorised, others = (
        measure_prompts(study.model, prompts, study.how.sampling)
        for prompts in (items.memorised.prompts, ordinary)
    )
    groups = [str(number) for number in range(len(memorised))]
    for name, of in (
        ("noise gap, step 1", lambda each: each.first_gap),
        ("noise gap, mean of steps", lambda each: each.mean_gap),
        ("agreement of seeds", lambda each: each.agreement),
    ):
        found = measure_detection(name, [of(e) for e in memorised], [of(e) for e in others], groups)
        low, high = found.area_interval.lower, found.area_interval.upper
        print(
            f"- {name}: AUC {found.area:.3f} [{low:.3f}, {high:.3f}], {found.found.hits} of "
            f"{found.found.total} found with {found.false_alarms.hits} of "
            f"{found.false_alarms.total} false alarms"
        )


def agreement_of_items(study: DiffusionStudy) -> None:
    """How alike masks of single images are."""
    single = MaskSetting(MaskRule.WANDA_DIFF, (SiteKind.FEED_FORWARD,), 0.1)
    count = len(study.items.memorised.prompts)
    masks = [study.masks(single, [number]) for number in range(count)]
    pairs = [overlap(a, b) for at, a in enumerate(masks) for b in masks[:at]]
    chance = overlap_by_chance(masks[0].density, masks[1].density)
    print(
        f"- masks of single images (wanda_diff, feed_forward, 0.1) overlap by "
        f"{np.mean(pairs):.3f} [{min(pairs):.3f}, {max(pairs):.3f}], chance {chance:.3f}"
    )


def report(study: DiffusionStudy, chosen: MaskSetting) -> None:
    """The repair beside its rivals, then attacked."""
    before = study.measure(Split.REPORT)
    print("| mask | density | rate | similarity | errors |\n|---|---|---|---|---|")
    row("untouched", 0.0, before)
    attacked = [("untouched", study.attacks())]
    for name, setting in study.settings.items():
        if setting != chosen and setting.rule is not MaskRule.WANDA_DIFF:
            continue
        candidate = study.candidate(name)
        with pruned(candidate.sites, candidate.masks):
            row(name, candidate.masks.density, study.measure(Split.REPORT))
            if setting == chosen:
                attacked.append((name, study.attacks()))
                with study.hardened(candidate):
                    trained = f"{name}, trained"
                    row(trained, candidate.masks.density, study.measure(Split.REPORT))
                    attacked.append((trained, study.attacks()))
        if setting == chosen:
            show_rivals(study, candidate)
    print("\n| mask | attack | memorised | others | excess, 95 % |\n|---|---|---|---|---|")
    for name, recoveries in attacked:
        told(name, recoveries)


def gate(folder: Path, seed: int, chosen: MaskSetting, harden: int) -> None:
    """Whether the whole repair, with all controls, is accepted and written."""
    how = settings(harden, rules=(chosen.rule,), layers=(chosen.kinds,), shares=(chosen.share,))
    with tempfile.TemporaryDirectory() as place:
        result = fix_by_pruning(
            study_of(folder, seed, how), Path(place) / "new", PruningWork(DEMANDS)
        )
    trained = f", trained for {harden} steps" if harden else ""
    print(f"- {chosen.name}{trained}: {result.decision} ({'; '.join(result.reasons)})")


def main() -> None:
    """Run every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--harden", type=int, default=300)
    parser.add_argument("--chosen", help="`rule, layers, share` instead of a sweep")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chosen = MaskSetting.read(asked.chosen) if asked.chosen else None
    for seed in asked.seeds:
        started = time.monotonic()
        print(f"\n## Seed {seed}\n")
        study = study_of(asked.out / f"seed{seed}", seed, settings(asked.harden))
        detect(study)
        agreement_of_items(study)
        if chosen is None:
            chosen = sweep(study)
        report(study, chosen)
        print()
        for harden in dict.fromkeys((0, asked.harden)):
            gate(asked.out / f"seed{seed}", seed, chosen, harden)
        print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
