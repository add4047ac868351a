"""What small language models give back of training text that is known to the word.

    python benchmarks/memorization_language.py --out canaries --seeds 0 1 2

Models are trained by tests/models/train_canary_lm.py on ordinary text in which notes with random
codes stand 1 to 128 times, and on the same text without them; trained ones are kept in the folder
and used again (about two minutes each otherwise). What greedy decoding gives by copies and prefix
length, with slopes and intervals over seeds, beside codes that were never planted and the model
that saw none; how exposed codes are; and the two ways to find exact extractions, one pass over the
true text and generation, side by side in one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from canary_setting import Setting, asked_settings
from numpy.typing import NDArray

from auditor.intervals import middle_95
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.exposure import measure_exposure
from auditor.memorization.language.extraction import (
    ExtractionOptions,
    measure_extraction,
    prompt_of,
)
from auditor.memorization.language.extraction_curves import (
    Slope,
    is_exact,
    is_near,
    rate_of,
    rates_by_copies,
    slope_of_copies,
    slope_of_prefix,
)
from auditor.memorization.language.extraction_record import Extraction, SpanResult
from auditor.memorization.language.training_spans import TrainingSpan
from tests.models.canary_lm import CODES, LEVELS, PREFIX

PREFIXES = (4, 8, 16, PREFIX)
NEAR = 0.75
DRAWS = 4
CANDIDATES = 255


def main() -> None:
    """Counts, slopes, controls and exposure of each seed and of all; then the two paths."""
    settings = asked_settings(str(__doc__))
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


if __name__ == "__main__":
    main()
