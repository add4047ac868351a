"""Attacks on a repaired language model: other prefixes, a soft prompt, and a little training.

Each tries to bring memorised continuations back, and is made in the same way on texts that the
model never saw: what comes back of those is what the attack itself puts in.

Prefixes that end later or earlier, a replaced token and many draws cost next to nothing. A soft
prompt is optimised on some spans together and judged on others, so that it cannot carry the texts
itself. Relearning trains on some spans; whether others come back too tells how shallow the
suppression is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auditor.errors import ConfigurationError
from auditor.language.causal_lm import CausalLM
from auditor.memorization.descent import descend
from auditor.memorization.language.subspace import IGNORED, read_spans, span_batch
from auditor.memorization.language.training_spans import TrainingSpan

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SoftPromptOptions:
    """How a soft prompt is found.

    Attributes:
        tokens: Virtual tokens before the prefix.
        steps: Of Adam, fixed in advance.
        rate: Its learning rate.
        batch: Spans at each step.
        seed: Of the beginning and the drawing.
    """

    tokens: int = 8
    steps: int = 100
    rate: float = 0.05
    batch: int = 16
    seed: int = 0


@dataclass(frozen=True)
class RelearningOptions:
    """How a model is trained again.

    Attributes:
        steps: Of AdamW on all weights, fixed in advance.
        rate: Its learning rate.
        batch: Spans at each step.
        seed: Of the drawing.
    """

    steps: int = 20
    rate: float = 1e-4
    batch: int = 8
    seed: int = 0


def shifted(spans: Sequence[TrainingSpan], by: int) -> list[TrainingSpan]:
    """The same texts with prefixes that end so many tokens later (earlier, if negative).

    Raises:
        ConfigurationError: A span has no token left on one side.
    """
    found = []
    for span in spans:
        whole = (*span.prefix, *span.continuation)
        cut = len(span.prefix) + by
        if not 1 <= cut < len(whole):
            raise ConfigurationError(
                f"{span.name} has {len(span.prefix)} tokens and {len(span.continuation)} after "
                f"them; a shift by {by:+d} leaves none on one side, give a smaller one"
            )
        found.append(replace(span, prefix=whole[:cut], continuation=whole[cut:]))
    return found


def without_rarest(
    spans: Sequence[TrainingSpan], counts: Sequence[int], seed: int = 0
) -> list[TrainingSpan]:
    """The same texts with the rarest token of each prefix replaced by a common one.

    A few rare tokens of a prefix decide about recital (Stoehr et al. 2024, arXiv 2403.19851).

    Args:
        spans: The texts.
        counts: How often each token of the vocabulary stands in ordinary text.
        seed: Of the drawing: another token, each as likely as it is frequent.

    Raises:
        ConfigurationError: Fewer than two tokens were counted.
    """
    if sum(count > 0 for count in counts) < 2:
        raise ConfigurationError("fewer than two tokens were counted; give ordinary text")
    source = np.random.default_rng(seed)
    found = []
    for span in spans:
        place = min(range(len(span.prefix)), key=lambda at: counts[span.prefix[at]])
        chances = np.array(counts, np.float64)
        chances[span.prefix[place]] = 0
        drawn = int(source.choice(len(chances), p=chances / chances.sum()))
        found.append(replace(span, prefix=(*span.prefix[:place], drawn, *span.prefix[place + 1 :])))
    return found


def chance_of_draws(
    model: CausalLM, spans: Sequence[TrainingSpan], draws: int
) -> NDArray[np.float64]:
    """That one of so many draws at temperature 1 gives a continuation exactly, [spans].

    Raises:
        ConfigurationError: No draw.
    """
    if draws < 1:
        raise ConfigurationError(f"{draws} draws; give at least 1")
    logs = np.array([each.log_probability for each in read_spans(model, spans)])
    # 1 - (1 - p)^draws, for chances far below the rounding of 1 - p; a certain one stays certain.
    with np.errstate(divide="ignore"):
        none = draws * np.log1p(-np.exp(np.minimum(logs, 0.0)))
    found: NDArray[np.float64] = -np.expm1(none)
    return found


def recited(model: CausalLM, spans: Sequence[TrainingSpan]) -> NDArray[np.float64]:
    """1 where greedy decoding behind a prefix gives the continuation exactly, else 0, [spans]."""
    return np.array([float(each.exact) for each in read_spans(model, spans)])


def find_soft_prompt(
    model: CausalLM, spans: Sequence[TrainingSpan], options: SoftPromptOptions | None = None,
    progress: Progress = lambda done, total: None,
) -> Tensor:  # fmt: skip
    """Virtual tokens [tokens, width] before every prefix, under which continuations are likely.

    Raises:
        ConfigurationError: No spans, a setting out of range, or a span too long for the model.
        UnsupportedModel: The loss is not finite.
    """
    options = options or SoftPromptOptions()
    if not spans or min(options.tokens, options.steps, options.batch) < 1 or not options.rate > 0:
        raise ConfigurationError(
            f"{len(spans)} spans, {options.tokens} virtual tokens, {options.steps} steps of "
            f"{options.batch} at rate {options.rate:g}; give at least one of each and a positive "
            "rate"
        )
    require_room(model, spans, options.tokens)
    source = torch.Generator().manual_seed(options.seed)
    table = model.model.get_input_embeddings().weight.detach()
    begin = torch.randint(len(table), (options.tokens,), generator=source)
    soft = nn.Parameter(table[begin.to(table.device)].float().clone())
    optimiser = torch.optim.Adam([soft], lr=options.rate)
    for step in range(options.steps):
        drawn = torch.randint(len(spans), (options.batch,), generator=source).tolist()
        with torch.enable_grad():
            loss = _loss_behind(model, soft, [spans[at] for at in drawn])
            descend(loss, [soft], optimiser, step)
        progress(step + 1, options.steps)
    return soft.detach()


def require_room(model: CausalLM, spans: Sequence[TrainingSpan], tokens: int) -> None:
    """Refuse spans that have no room for so many tokens more.

    Raises:
        ConfigurationError: Names the first.
    """
    for span in spans:
        needed = (model.start is not None) + len(span.prefix) + len(span.continuation) + tokens
        if needed > model.max_tokens:
            raise ConfigurationError(
                f"{span.name} behind {tokens} virtual tokens needs {needed} and the model sees "
                f"{model.max_tokens}; give fewer virtual tokens"
            )


def recited_behind(
    model: CausalLM, soft: Tensor, spans: Sequence[TrainingSpan], batch_size: int = 16
) -> NDArray[np.float64]:
    """1 where greedy decoding behind virtual tokens gives a continuation exactly, else 0, [spans].

    Read in one pass: see `auditor.language.teacher_forcing`.
    """
    found: list[bool] = []
    with torch.inference_mode():
        for first in range(0, len(spans), batch_size):
            logits, labels = _behind(model, soft, spans[first : first + batch_size])
            wrong = (logits[:, :-1].argmax(-1) != labels[:, 1:]) & (labels[:, 1:] != IGNORED)
            found += (~wrong.any(dim=1)).tolist()
    return np.array(found, np.float64)


def _loss_behind(model: CausalLM, soft: Tensor, spans: Sequence[TrainingSpan]) -> Tensor:
    logits, labels = _behind(model, soft, spans)
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def _behind(model: CausalLM, soft: Tensor, spans: Sequence[TrainingSpan]) -> tuple[Tensor, Tensor]:
    """Logits and labels of spans behind virtual tokens, [spans, virtual + tokens, ...].

    A beginning of text stays in front of them.
    """
    ids, mask, labels = span_batch(model, spans)
    hard = model.model.get_input_embeddings()(ids)
    many = soft.to(hard).expand(len(spans), *soft.shape)
    cut = 0 if model.start is None else 1
    ahead = mask.new_ones(len(spans), len(soft))
    logits: Tensor = model.model(
        inputs_embeds=torch.cat([hard[:, :cut], many, hard[:, cut:]], dim=1),
        attention_mask=torch.cat([ahead, mask], dim=1), use_cache=False,
    ).logits  # fmt: skip
    return logits, torch.cat([labels.new_full(ahead.shape, IGNORED), labels], dim=1)


def relearn(
    model: CausalLM, spans: Sequence[TrainingSpan], options: RelearningOptions | None = None,
    progress: Progress = lambda done, total: None,
) -> CausalLM:  # fmt: skip
    """A copy of the model that was trained on some texts for a few steps; nothing is held at zero.

    Raises:
        ConfigurationError: No spans, or a setting out of range.
        UnsupportedModel: The loss is not finite.
    """
    options = options or RelearningOptions()
    if not spans or min(options.steps, options.batch) < 1 or not options.rate > 0:
        raise ConfigurationError(
            f"{len(spans)} spans, {options.steps} steps of {options.batch} at rate "
            f"{options.rate:g}; give at least one of each and a positive rate"
        )
    network = copy.deepcopy(model.model).requires_grad_(True)
    learner = replace(model, model=network, network=type(model.network)(network))
    parameters = list(network.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=options.rate)
    source = torch.Generator().manual_seed(options.seed)
    for step in range(options.steps):
        drawn = torch.randint(len(spans), (options.batch,), generator=source).tolist()
        ids, mask, labels = span_batch(learner, [spans[at] for at in drawn])
        with torch.enable_grad():
            loss = network(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            descend(loss, parameters, optimiser, step)
        progress(step + 1, options.steps)
    optimiser.zero_grad()
    return learner
