"""What a small real model does with XSTest's prompts, and what batches are worth.

    python benchmarks/refusal_behaviour.py FOLDER [--prompts 450] [--sample 24] [--tokens 128]

FOLDER is a transformers folder, for example SmolLM2-135M-Instruct as `specs/convert_smollm2.py`
writes it. Prompts (Röttger et al. 2024: 250 safe ones that look unsafe, 200 unsafe contrasts) are
completed greedily, judged by keywords, and counted by type as in that paper: full compliance,
full refusal, partial refusal. The keywords' agreement with people is that on completions of two
other models. Then a sample of prompts is completed twice in the same run, one by one and in
batches, in alternating order; the ratio of the two is the figure that another machine can hold its
own against. No prompt and no completion is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch

from auditor.language.asking import Asking, other_composition
from auditor.language.causal_lm import CausalLM
from auditor.language.deflection import DeflectionRules
from auditor.language.judge_agreement import (
    PEOPLES_LABELS,
    measure_agreement,
    read_labelled_completions,
)
from auditor.language.prompt_sets import AskedPrompt, PromptFiles, PromptSet, read_prompt_sets
from auditor.language.refusal import MarkerJudge
from auditor.language.refusal_behaviour import measure_behaviour
from auditor.language.refusal_evidence import COLUMNS, behaviour_cells, behaviour_rows
from auditor.language.refusal_record import RefusalBehaviour, compare_runs
from auditor.language.sentence_embedding import SentenceEmbedder

DATA = Path(__file__).parents[1] / ".." / "shared" / "data" / "safety"
MODELS = ("llama2orig", "mistralinstruct")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--prompts", type=int, default=450, help="at most so many in all")
    parser.add_argument("--sample", type=int, default=24, help="prompts that are timed both ways")
    parser.add_argument("--rounds", type=int, default=1, help="of the timing")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--noise-floor", action="store_true")
    given = parser.parse_args()
    file = given.data / "xstest_prompts.csv"
    if not file.is_file():
        print(f"skipped: prompts are not there: {file}")
        return
    asked = spread(read_xstest(file), given.prompts)
    model = CausalLM.open(given.folder)
    embedder = SentenceEmbedder.open()
    rules = DeflectionRules(embedder.embed, embedder.digest)
    asking = Asking(given.tokens, batch_size=given.batch)
    print(f"{given.folder.name}, {torch.get_num_threads()} threads, {len(asked)} prompts, at most "
          f"{given.tokens} tokens each, batches of {given.batch}\n")  # fmt: skip
    found = measure_behaviour(
        model, asked, MarkerJudge(), asking, rules=rules,
        progress=lambda done, total: print(f"{done} of {total}", file=sys.stderr, flush=True),
    )  # fmt: skip
    show(found)
    if given.noise_floor:
        again = measure_behaviour(
            model, asked, MarkerJudge(), other_composition(asking), rules=rules
        )
        for flips in compare_runs(found, again):
            print(f"other batches, {flips.kind}: {flips.changed} of {flips.total} behave "
                  f"otherwise, {flips.other_text} other texts")  # fmt: skip
    show_agreement(given.data / "xstest_completions")
    texts = [model.chat(each.prompt.text) for each in spread(asked, given.sample)]
    time_batches(model, texts, given.tokens, given.batch, given.rounds)


def read_xstest(file: Path) -> list[AskedPrompt]:
    """All prompts, by the file's own label."""
    return read_prompt_sets(PromptFiles(
        dict.fromkeys(PromptSet, file),
        {PromptSet.HARMFUL: frozenset({"unsafe"}), PromptSet.HARMLESS: frozenset({"safe"})},
        "label",
    ))  # fmt: skip


def spread(asked: list[AskedPrompt], count: int) -> list[AskedPrompt]:
    """So many of them, evenly over the list."""
    count = min(count, len(asked))
    return [asked[number * len(asked) // count] for number in range(count)]


def show(found: RefusalBehaviour) -> None:
    """The table, and what it took."""
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for counts in behaviour_rows(found):
        print("| " + " | ".join(map(str, behaviour_cells(counts))) + " |")
    print(f"\n{found.tokens} tokens in {found.minutes:.1f} minutes, "
          f"{found.tokens_per_second:.0f} a second")  # fmt: skip


def show_agreement(folder: Path) -> None:
    """Of the keywords with people, on two other models' completions."""
    for model in MODELS:
        path = folder / f"xstest_v2_completions_{model}.csv"
        if not path.is_file():
            print(f"agreement not measured: {path} is not there")
            continue
        rows = read_labelled_completions(path, "completion", "final_label", PEOPLES_LABELS)
        agreed = measure_agreement(MarkerJudge(), rows)
        interval = agreed.balanced_accuracy_interval
        ends = f"[{interval.lower:.2f}, {interval.upper:.2f}]"
        print(f"keywords against people on {model}: balanced accuracy "
              f"{agreed.balanced_accuracy:.2f} {ends}")  # fmt: skip


def time_batches(model: CausalLM, texts: list[str], tokens: int, batch: int, rounds: int) -> None:
    """The same prompts one by one and in batches, in alternating order."""
    model.generate(texts[:2], max_new_tokens=2)  # what happens once only
    seconds: dict[int, list[float]] = {1: [], batch: []}
    said: dict[int, list[str]] = {}
    for number in range(rounds):
        for size in (1, batch) if number % 2 == 0 else (batch, 1):
            started = time.perf_counter()
            completions = model.generate(texts, max_new_tokens=tokens, batch_size=size)
            seconds[size].append(time.perf_counter() - started)
            said[size] = [each.text for each in completions]
    ratios = [one / many for one, many in zip(seconds[1], seconds[batch], strict=True)]
    differ = sum(one != many for one, many in zip(said[1], said[batch], strict=True))
    print(f"{len(texts)} prompts one by one {min(seconds[1]):.1f} s, in batches of {batch} "
          f"{min(seconds[batch]):.1f} s: {statistics.median(ratios):.1f} times as fast; "
          f"{differ} texts differ")  # fmt: skip


if __name__ == "__main__":
    main()
