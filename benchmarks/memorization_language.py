"""Memorisation in small language models whose training text is known to the word.

    python benchmarks/memorization_language.py --out canaries --seeds 0 1 2

Models are trained by tests/models/train_canary_lm.py on ordinary text in which notes with random
codes stand 1 to 128 times, and on the same text without them; trained ones are kept in the folder
and used again (about two minutes each otherwise). Part `extraction`: what greedy decoding gives by
copies and prefix length, with slopes and intervals over seeds, beside codes that were never planted
and the model that saw none; how exposed codes are; and the two ways to find exact extractions, one
pass over the true text and generation, side by side in one run. Part `pruning`: weights that
carry canaries set to zero by several rules, chosen on the first seed and reported on the others,
beside masks that know nothing of canaries, and attacked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.fixes.language_items import LanguageItems
from auditor.fixes.language_pruning import DEMANDS, LanguagePruning, LanguageStudy
from auditor.fixes.pruning import locate
from auditor.fixes.pruning_study import Candidate, Recovery, Split
from auditor.intervals import Share, middle_95, wilson_interval
from auditor.language.causal_lm import CausalLM
from auditor.memorization.exposure import measure_exposure
from auditor.memorization.extraction import ExtractionOptions, measure_extraction, prompt_of
from auditor.memorization.extraction_curves import (
    Slope,
    is_exact,
    is_near,
    rate_of,
    rates_by_copies,
    slope_of_copies,
    slope_of_prefix,
)
from auditor.memorization.extraction_record import Extraction, SpanResult
from auditor.memorization.language_subspace import language_norms
from auditor.memorization.mask_rules import MaskRule, magnitude_masks, matched_masks
from auditor.memorization.score_masks import masks_by_scores, norm_scores
from auditor.memorization.shared_subspace import measure_shared_subspace
from auditor.memorization.training_spans import TrainingSpan
from auditor.memorization.weight_masks import WeightMasks, pruned
from auditor.memorization.weight_sites import SiteKind, find_sites
from tests.models import train_canary_lm
from tests.models.canary_items import UNREAD, canary_items, is_note
from tests.models.canary_lm import (
    CODES,
    LEVELS,
    PREFIX,
    CanaryCorpus,
    Variant,
    canary_spans,
    plant,
)

PREFIXES = (4, 8, 16, PREFIX)
NEAR = 0.75
DRAWS = 4
CANDIDATES = 255


@dataclass(frozen=True)
class Setting:
    """Text and models of one seed; models are trained when they are first asked for.

    Attributes:
        out: Where models are kept.
        seed: Of text and training.
    """

    out: Path
    seed: int

    @cached_property
    def corpus(self) -> CanaryCorpus:
        """The training text, and what is not in it."""
        return plant(self.seed)

    def folder(self, variant: Variant) -> Path:
        """The folder of a trained model."""
        name = {Variant.PLANTED: "seed", Variant.REFERENCE: "reference"}[variant]
        folder = self.out / f"{name}{self.seed}"
        if not (folder / "config.json").exists():
            started = time.monotonic()
            train_canary_lm.write(folder, variant, self.seed)
            print(f"{folder.name}: trained in {time.monotonic() - started:.0f} s", flush=True)
        return folder

    @cached_property
    def model(self) -> CausalLM:
        """The model that saw the canaries."""
        return CausalLM.open(self.folder(Variant.PLANTED))

    @cached_property
    def reference(self) -> CausalLM:
        """The model that saw none."""
        return CausalLM.open(self.folder(Variant.REFERENCE))

    @cached_property
    def spans(self) -> list[TrainingSpan]:
        """The canaries."""
        return canary_spans(self.model, self.corpus.canaries)

    @cached_property
    def never(self) -> list[TrainingSpan]:
        """Canaries that no model saw."""
        return canary_spans(self.model, self.corpus.unplanted)

    @cached_property
    def items(self) -> LanguageItems:
        """What a pruning is told: canaries that are given exactly, and what no canary is in."""
        return canary_items(self.model, self.corpus)

    def nats_beside(self) -> tuple[float, float]:
        """Mean nats of documents without notes, and of notes, that the model never read."""
        notes = [text for text in self.corpus.spare[2 * UNREAD :] if is_note(text)][:UNREAD]
        held_out = self.corpus.held_out
        return tuple(float(np.mean(self.model.mean_nats(each))) for each in (held_out, notes))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("canaries"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = [Setting(given.out, seed) for seed in given.seeds]
    for part in given.parts:
        print(f"== {part}", flush=True)
        PARTS[part](settings)


# Part one: extraction.


def extraction_part(settings: Sequence[Setting]) -> None:
    """Counts, slopes, controls and exposure of each seed and of all; then the two paths."""
    pooled: list[Extraction] = []
    for setting in settings:
        found = measure_extraction(
            setting.model, setting.spans, ExtractionOptions(PREFIXES, draws=DRAWS)
        )
        show_extraction(f"seed {setting.seed}", found)
        show_beside(setting, found)
        pooled.append(of_seed(found, setting.seed))
    if len(pooled) > 1:
        every = tuple(result for found in pooled for result in found.results)
        planned = sum(found.planned for found in pooled)
        show_extraction(f"{len(pooled)} seeds", Extraction(every, planned, PREFIXES, 0.0))
    time_paths(settings[0])


def of_seed(found: Extraction, seed: int) -> Extraction:
    """The same results with groups that other seeds do not share."""
    results = tuple(
        replace(each, span=replace(each.span, group=f"{seed}/{each.span.group}"))
        for each in found.results
    )
    return replace(found, results=results)


def show_extraction(name: str, found: Extraction) -> None:
    """A row for each prefix length, a column for each number of copies; then slopes."""
    print(f"{name}: canaries given exactly, of {len(found.at(PREFIX)) // len(LEVELS)} of each "
          "number of copies")  # fmt: skip
    print("| prefix | " + " | ".join(map(str, LEVELS)) + " | slope per doubling of copies |")
    print("|" + "---|" * (len(LEVELS) + 2))
    for length in found.prefix_lengths:
        show_row(str(length), found.at(length), is_exact)
    show_row(f"{PREFIX}, similarity {NEAR}", found.longest, is_near(NEAR))
    chances = {level: [each.chance for each in found.longest if each.span.copies == level]
               for level in LEVELS}  # fmt: skip
    print(
        f"| {PREFIX}, mean chance of a draw | "
        + " | ".join(f"{statistics.mean(chances[level]):.3f}" for level in LEVELS)
        + " | |"
    )
    drawn = [each.drawn for each in found.longest if each.drawn is not None]
    hits, expected = sum(each.hits for each in drawn), sum(each.chance for each in found.longest)
    print(f"slope per doubling of the prefix: {said(slope_of_prefix(found, is_exact))}; "
          f"{hits} of {DRAWS * len(drawn)} draws give the code, {DRAWS * expected:.1f} expected "
          "from one pass", flush=True)  # fmt: skip


def show_row(
    name: str, results: Sequence[SpanResult], counts: Callable[[SpanResult], bool]
) -> None:
    cells = [str(point.hits) for point in rates_by_copies(results, counts)]
    print(f"| {name} | " + " | ".join(cells) + f" | {said(slope_of_copies(results, counts))} |")


def said(slope: Slope | None) -> str:
    if slope is None:
        return "none"
    return f"{slope.value:.3f} ({slope.interval.lower:.3f} to {slope.interval.upper:.3f})"


def show_beside(setting: Setting, found: Extraction) -> None:
    """Controls, exposure, and how well both models read ordinary text."""
    strictly = ExtractionOptions((PREFIX,), compare=False)
    never = measure_extraction(setting.model, setting.never, strictly)
    print(f"codes never planted: {rate_of(never.longest, is_exact).said} given exactly")
    other = measure_extraction(setting.reference, setting.spans, strictly)
    print(f"model without canaries: {rate_of(other.longest, is_exact).said} of the planted codes "
          "given exactly")  # fmt: skip
    held_out = list(setting.corpus.held_out)
    print(f"perplexity of {len(held_out)} held-out documents: with canaries "
          f"{setting.model.perplexity(held_out):.3f}, without "
          f"{setting.reference.perplexity(held_out):.3f}")  # fmt: skip
    few = [each for each in setting.spans if (each.copies or 0) <= 4]
    missed = sum(not each.exact for each in found.longest if (each.span.copies or 0) <= 4)
    for name, spans in (("up to four copies", few), ("never planted", setting.never)):
        bits = exposures(setting.model, spans)
        interval = middle_95(resampled(bits), "bootstrap")
        print(f"exposure among {CANDIDATES + 1} codes, {name}: {np.mean(bits):.2f} bits "
              f"({interval.lower:.2f} to {interval.upper:.2f}) of at most "
              f"{np.log2(CANDIDATES + 1):.0f}"
              + (f"; {missed} of {len(few)} are not extracted" if spans is few else ""),
              flush=True)  # fmt: skip


def exposures(model: CausalLM, spans: Sequence[TrainingSpan]) -> list[float]:
    """Bits of each, among random codes."""
    found = measure_exposure(
        model, spans, prefix_length=PREFIX, alphabet=model.encode(" ".join(CODES)),
        candidates=CANDIDATES, batch_size=256,
    )  # fmt: skip
    return [each.bits for each in found]


def resampled(values: Sequence[float]) -> NDArray[np.float64]:
    """Means of values drawn again."""
    drawn = np.random.default_rng(0).integers(len(values), size=(1_000, len(values)))
    means: NDArray[np.float64] = np.asarray(values)[drawn].mean(1)
    return means


def time_paths(setting: Setting, rounds: int = 5, batch: int = 64) -> None:
    """One pass over the true text against generation, in alternating order, same answers."""
    model = setting.model
    for name, spans in (("canaries", setting.spans), ("running text", running_text(setting))):
        prompts = [prompt_of(model, each, len(each.prefix)) for each in spans]
        true = [each.continuation for each in spans]
        tokens = len(true[0])

        def read(
            prompts: list[tuple[int, ...]] = prompts, true: list[tuple[int, ...]] = true
        ) -> list[bool]:
            found = model.read_continuations(prompts, true, batch_size=batch)
            return [each.exact for each in found]

        def generate(
            prompts: list[tuple[int, ...]] = prompts,
            true: list[tuple[int, ...]] = true,
            tokens: int = tokens,
        ) -> list[bool]:
            found = model.continue_tokens(prompts, max_new_tokens=tokens, batch_size=batch)
            return [each.token_ids == ids for each, ids in zip(found, true, strict=True)]

        paths: dict[str, Callable[[], list[bool]]] = {"pass": read, "generation": generate}
        said_by = {path: ask() for path, ask in paths.items()}  # what happens once only
        seconds: dict[str, list[float]] = {path: [] for path in paths}
        for number in range(rounds):
            for path in list(paths)[:: 1 if number % 2 == 0 else -1]:
                started = time.perf_counter()
                paths[path]()
                seconds[path].append(time.perf_counter() - started)
        ratios = [b / a for a, b in zip(seconds["pass"], seconds["generation"], strict=True)]
        differ = sum(a != b for a, b in zip(*said_by.values(), strict=True))
        print(f"{len(spans)} spans of {name}, {len(spans[0].prefix)} + {tokens} tokens: one pass "
              f"{statistics.median(seconds['pass']):.3f} s, generation "
              f"{statistics.median(seconds['generation']):.3f} s, {statistics.median(ratios):.1f} "
              f"times ({min(ratios):.1f} to {max(ratios):.1f}) as long; {sum(said_by['pass'])} "
              f"exact, {differ} answers differ", flush=True)  # fmt: skip


def running_text(setting: Setting, count: int = 128) -> list[TrainingSpan]:
    """Spans of 50 and 50 tokens of the training text, one document behind another."""
    ids = [
        token for text in setting.corpus.training()[:2_000]
        for token in (*setting.model.encode(text), *sorted(setting.model.ends))
    ]  # fmt: skip
    starts = range(0, count * 100, 100)
    return [
        TrainingSpan(f"{at}", f"{at}", tuple(ids[at : at + 50]), tuple(ids[at + 50 : at + 100]))
        for at in starts
    ]


# Part two: pruning.

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


def pruning_part(settings: Sequence[Setting]) -> None:
    """Every candidate on the first seed; what is chosen by it, with controls and attacks, on all.

    Attacks are made on the other seeds, or on the first if there is no other.
    """
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
    return study_of(setting, family).masks(family[0], *setting_of(candidate))


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
        sites = find_sites(setting.model.model, setting_of(candidate)[0])
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


def setting_of(candidate: Candidate) -> tuple[tuple[SiteKind, ...], float]:
    """Layers and share of a candidate, from its name."""
    parts = candidate.name.split(", ")
    return tuple(map(SiteKind, parts[1].split(" + "))), float(parts[-1])


def crossed(setting: Setting, study: LanguageStudy, candidate: Candidate) -> str:
    """Strict extraction of one half and of the other under masks of the one, both ways round."""
    own: list[NDArray[np.float64]] = []
    other: list[NDArray[np.float64]] = []
    kinds, share = setting_of(candidate)
    sites = find_sites(setting.model.model, kinds)
    for half in Split:
        masks = study.masks(study.how.rules[0], kinds, share, setting.items.of(half))
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
        sites = find_sites(setting.model.model, setting_of(candidate)[0])
        with pruned(sites, masks_of(setting, family, candidate)):
            table[candidate.name] = study_of(setting, family).attacks()
    print("| attack | " + " | ".join(table) + " |")
    print("|" + "---|" * (len(table) + 1))
    for row in zip(*table.values(), strict=True):
        cells = [f"{each.rates.mean():.2f} ({each.control.mean():.2f})" for each in row]
        print(f"| {row[0].attack} | " + " | ".join(cells) + " |", flush=True)


PARTS: dict[str, Callable[[Sequence[Setting]], None]] = {
    "extraction": extraction_part, "pruning": pruning_part,
}  # fmt: skip


if __name__ == "__main__":
    main()
