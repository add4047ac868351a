"""Asking a language model for its training text: k-extractable memorisation and what is near it.

A span of k + n tokens is k-extractable if the model, given the k tokens, continues greedily with
exactly the n tokens that follow in the training text (Carlini et al. 2022, arXiv 2202.07646). One
pass over the true text tells that (`auditor.language.teacher_forcing`), and how likely sampling is
to give it (Hayes et al. 2024, arXiv 2410.19482); only what is not exact is continued, to see how
near it comes. Nothing here says where the model has a continuation from: see
`auditor.memorization.language.guessing` and compare with a model that never saw the text.

    model = CausalLM.open(Path("folder"))
    spans = cut_spans(model, read_span_sources(Path("spans.jsonl")), SpanShape(50, 50))
    found = measure_extraction(model, spans, ExtractionOptions(prefix_lengths=(16, 32, 50)))
    print(found.count(50, lambda span: span.exact), "of", found.asked)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.language.asking import SLICE
from auditor.language.text_model import TextModel
from auditor.memorization.language.extraction_record import (
    Comparison,
    Drawn,
    Extraction,
    SpanResult,
)
from auditor.memorization.language.text_distance import common_run, similarity
from auditor.memorization.language.training_spans import TrainingSpan


@dataclass(frozen=True)
class ExtractionOptions:
    """How spans are asked for.

    Attributes:
        prefix_lengths: Tokens of the prefixes, each the last ones of a span's prefix.
        compare: Whether what is not exact is continued greedily, to see how near it comes.
        draws: Sampled completions at temperature 1 of each span, beside the exact chance.
        batch_size: Prompts at once.
        seed: Of sampling; draw number i has the seed `seed + i`.
    """

    prefix_lengths: tuple[int, ...] = (16, 32, 50)
    compare: bool = True
    draws: int = 0
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what asks for nothing, and what is no order of lengths."""
        lengths = self.prefix_lengths
        if not lengths or list(lengths) != sorted(set(lengths)) or lengths[0] < 1:
            raise ConfigurationError(
                f"prefix lengths {', '.join(map(str, lengths)) or 'none'}; give different ones of "
                "at least 1, from short to long"
            )
        if self.draws < 0 or self.batch_size < 1:
            raise ConfigurationError(
                f"{self.draws} draws in batches of {self.batch_size}; give at least 0 and 1"
            )


def measure_extraction(
    model: TextModel,
    spans: Sequence[TrainingSpan],
    options: ExtractionOptions | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Ask for each span with each prefix length.

    Args:
        model: The model.
        spans: Whose prefixes are at least as long as the longest length.
        options: How.
        stop: Asked between slices of spans; the first slice is always asked for.
        progress: Called with spans done and in all.

    Raises:
        NothingToAudit: No spans.
        ConfigurationError: A prefix that is too short, or too long for the model.
        UnsupportedModel: A logit is not finite.
    """
    options = options or ExtractionOptions()
    if not spans:
        raise NothingToAudit("no training spans; give at least one")
    for span in spans:
        if len(span.prefix) < options.prefix_lengths[-1]:
            raise ConfigurationError(
                f"{span.name} has a prefix of {len(span.prefix)} tokens and is to be asked for "
                f"with {options.prefix_lengths[-1]}; cut it with a longer one"
            )
    started = time.perf_counter()
    size = options.batch_size * max(1, SLICE // options.batch_size)
    found: list[SpanResult] = []
    done = 0
    while done < len(spans) and not (done and stop()):
        part = spans[done : done + size]
        by_length = [ask_for(model, part, length, options) for length in options.prefix_lengths]
        found += [result for results in zip(*by_length, strict=True) for result in results]
        done += len(part)
        if progress is not None:
            progress(done, len(spans))
    return Extraction(
        tuple(found), len(spans), options.prefix_lengths, time.perf_counter() - started
    )


def ask_for(
    model: TextModel, spans: Sequence[TrainingSpan], length: int, options: ExtractionOptions
) -> list[SpanResult]:
    """Results of spans at one prefix length, in order."""
    prompts = [prompt_of(model, span, length) for span in spans]
    readings = model.read_continuations(
        prompts, [span.continuation for span in spans], batch_size=options.batch_size
    )
    compared: dict[int, Comparison] = {}
    if options.compare:
        left = [at for at, reading in enumerate(readings) if not reading.exact]
        compared = dict(zip(left, _compare(model, spans, prompts, left, options), strict=True))
    drawn = _draw(model, spans, prompts, options)
    return [
        SpanResult(span, length, reading, compared.get(at), drawn[at] if drawn else None)
        for at, (span, reading) in enumerate(zip(spans, readings, strict=True))
    ]


def prompt_of(model: TextModel, span: TrainingSpan, length: int) -> tuple[int, ...]:
    """The last so many tokens of a prefix, behind a beginning of text if the tokenizer puts one."""
    return (() if model.start is None else (model.start,)) + span.last(length)


def _compare(
    model: TextModel, spans: Sequence[TrainingSpan], prompts: Sequence[tuple[int, ...]],
    which: Sequence[int], options: ExtractionOptions,
) -> list[Comparison]:  # fmt: skip
    """Greedy completions of some spans, as long as their continuations, beside these."""
    written = _continue(
        model, [prompts[at] for at in which], [spans[at] for at in which], options, 0, 0.0
    )
    return [
        compare_completion(model, spans[at].continuation, ids)
        for at, ids in zip(which, written, strict=True)
    ]


def compare_completion(
    model: TextModel, continuation: Sequence[int], completion: Sequence[int]
) -> Comparison:
    """A completion beside the true continuation, by tokens and by text."""
    true, said = model.decode(continuation), model.decode(completion)
    return Comparison(
        tuple(completion), similarity(completion, continuation), similarity(said, true),
        common_run(completion, continuation), said.split() == true.split(),
    )  # fmt: skip


def _draw(
    model: TextModel, spans: Sequence[TrainingSpan], prompts: Sequence[tuple[int, ...]],
    options: ExtractionOptions,
) -> list[Drawn]:  # fmt: skip
    """What sampling gives, or nothing where nothing is to be drawn."""
    if not options.draws:
        return []
    hits, best = [0] * len(spans), [0.0] * len(spans)
    for number in range(options.draws):
        written = _continue(model, prompts, spans, options, options.seed + number, 1.0)
        for at, (span, ids) in enumerate(zip(spans, written, strict=True)):
            hits[at] += ids == span.continuation
            best[at] = max(best[at], similarity(ids, span.continuation))
    return [Drawn(hit, options.draws, near) for hit, near in zip(hits, best, strict=True)]


def _continue(
    model: TextModel, prompts: Sequence[tuple[int, ...]], spans: Sequence[TrainingSpan],
    options: ExtractionOptions, seed: int, temperature: float,
) -> list[tuple[int, ...]]:  # fmt: skip
    """As many tokens behind each prompt as its span's continuation has, or up to an end of text."""
    if not prompts:
        return []
    longest = max(len(span.continuation) for span in spans)
    completions = model.continue_tokens(
        prompts, max_new_tokens=longest, seed=seed, temperature=temperature,
        batch_size=options.batch_size,
    )  # fmt: skip
    return [
        each.token_ids[: len(span.continuation)]
        for each, span in zip(completions, spans, strict=True)
    ]
