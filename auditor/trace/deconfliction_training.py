"""Training a language model with preference pairs and the penalty on conflicting matches.

Each step takes some preference pairs (direct preference optimisation against the model as it
was), some texts with flagged tokens (rejected replies, and what the model itself says to given
prompts, made anew from time to time), and some clean text that holds the model to what it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.trace.calibration import Calibration
from auditor.trace.deconfliction import conflict_penalty, dpo_loss, flag_tokens
from auditor.trace.shield import check_fit
from auditor.trace.traced_text import Tracer

MOST_TOKENS: Final = 512

T = TypeVar("T")
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Preference:
    """A prompt, the reply that is wanted and the one that is not."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        steps: Optimiser steps.
        batch: Preference pairs, and flagged texts, and clean texts, in each.
        rate: Peak of the learning rate; AdamW, linear to 0.
        beta: Of direct preference optimisation.
        strength: Weight of the penalty; 0 is plain direct preference optimisation.
        scale: Score above the threshold from which a span counts fully; small, as conflict crowds
            just below 1 and so do its thresholds.
        hold: Weight of the clean text's divergence from the model as it was.
        refresh: Steps after which the model's own replies are made anew.
        new_tokens: Tokens of such a reply.
        seed: Of every choice.

    Raises:
        ConfigurationError: One of them is out of range.
    """

    steps: int = 100
    batch: int = 8
    rate: float = 1e-4
    beta: float = 0.1
    strength: float = 0.3
    scale: float = 1e-3
    hold: float = 20.0
    refresh: int = 50
    new_tokens: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can be done with."""
        for name in ("steps", "batch", "refresh", "new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} {getattr(self, name)}; give at least 1")
        for name, open_end in (("rate", True), ("scale", True), ("beta", True),
                               ("strength", False), ("hold", False)):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value < float("inf") or (open_end and not value):
                raise ConfigurationError(f"{name} {value}; give a number above 0")


@dataclass(frozen=True)
class Charge:
    """What the penalty is put on.

    Attributes:
        tracer: Traces replies.
        calibration: Which score above which threshold is charged; made with the tracer.
        prompts: Prompts to which the model's own replies are charged as well.
    """

    tracer: Tracer
    calibration: Calibration
    prompts: tuple[str, ...] = ()


@dataclass
class TrainingLog:
    """What each step's losses were: preference, penalty, divergence on clean text."""

    preference: list[float] = field(default_factory=list)
    penalty: list[float] = field(default_factory=list)
    divergence: list[float] = field(default_factory=list)
    flagged_texts: int = 0


@dataclass(frozen=True)
class _Flagged:
    ids: list[int]
    weights: list[float]


def train_deconfliction(
    model: Any,
    tokenizer: Any,
    preferences: Sequence[Preference],
    *,
    charge: Charge | None = None,
    clean: Sequence[str] = (),
    options: TrainingOptions | None = None,
    progress: Progress = lambda share, text: None,
) -> TrainingLog:
    """Train a transformers causal model in place.

    Args:
        model: The model; it is trained and left in evaluation mode, without dropout.
        tokenizer: A fast tokenizer, which knows the characters of each token.
        preferences: Pairs of replies.
        charge: What the penalty is put on; without it this is plain preference optimisation.
        clean: Text on which the model is to stay as it was.
        options: How to train.
        progress: Told the share that is done.

    Raises:
        NothingToAudit: There are no preferences.
        ConfigurationError: The calibration does not fit the tracer, or a prompt has no token.
    """
    options = options or TrainingOptions()
    if not preferences:
        raise NothingToAudit("no preference pairs; give prompts with a chosen and a rejected reply")
    if charge is not None:
        check_fit(charge.tracer, charge.calibration)
    # Without dropout in either, or the model would differ from what it was before any step.
    model.eval()
    base = copy.deepcopy(model).requires_grad_(False)
    source = np.random.default_rng(options.seed)
    # Of its own, so that pairs and clean text are the same with and without the penalty.
    charged = np.random.default_rng([options.seed, 1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.0)
    log, flagged = TrainingLog(), list[_Flagged]()
    for step in range(options.steps):
        if charge is not None and step % options.refresh == 0:
            texts = [(each.prompt, each.rejected) for each in preferences]
            texts += _own_replies(model, tokenizer, charge.prompts, options)
            flagged = _flag(tokenizer, texts, charge, options.scale, longest(model))
            log.flagged_texts = len(flagged)
        for group in optimiser.param_groups:
            group["lr"] = options.rate * (1 - step / options.steps)
        loss = _preference_loss(
            model, base, tokenizer, _draw(source, preferences, options), options
        )
        log.preference.append(float(loss.detach()))
        if flagged:
            penalty = _penalty(model, _draw(charged, flagged, options))
            log.penalty.append(float(penalty.detach()))
            loss = loss + options.strength * penalty
        if clean and options.hold > 0:
            away = _divergence(model, base, tokenizer, _draw(source, clean, options))
            log.divergence.append(float(away.detach()))
            loss = loss + options.hold * away
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        progress((step + 1) / options.steps, f"loss {float(loss.detach()):.3f}")
    return log


def _draw(source: np.random.Generator, items: Sequence[T], options: TrainingOptions) -> list[T]:
    """As many items as a batch has, none twice."""
    chosen = source.choice(len(items), size=min(options.batch, len(items)), replace=False)
    return [items[at] for at in chosen]


def _preference_loss(
    model: Any, base: Any, tokenizer: Any, pairs: list[Preference], options: TrainingOptions
) -> Tensor:
    texts = [(each.prompt, each.chosen) for each in pairs]
    texts += [(each.prompt, each.rejected) for each in pairs]
    ids, replies = _reply_ids(tokenizer, texts, longest(model))
    ours = reply_log_probabilities(model, ids, replies)
    with torch.no_grad():
        theirs = reply_log_probabilities(base, ids, replies)
    half = len(pairs)
    return dpo_loss(ours[:half], ours[half:], theirs[:half], theirs[half:], options.beta)


def reply_log_probabilities(model: Any, ids: Tensor, replies: Tensor) -> Tensor:
    """Log-probability of each reply under a model, [texts].

    Args:
        model: A transformers causal model.
        ids: Prompts and replies, padded on the right, [texts, tokens].
        replies: Which tokens are of the reply, [texts, tokens], bool.
    """
    logits = _logits(model, ids)[:, :-1]
    logs = torch.log_softmax(logits, dim=-1)
    chosen = logs.gather(-1, ids[:, 1:, None].to(logs.device))[..., 0]
    return (chosen * replies[:, 1:].to(chosen)).sum(dim=-1)


def _logits(model: Any, ids: Tensor) -> Tensor:
    """[texts, tokens, vocabulary]; padding on the right is not seen by the tokens before it."""
    ids = ids.to(model.device)
    found: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
    return found


def longest(model: Any) -> int:
    """Tokens of a text that are trained on: `MOST_TOKENS`, or fewer if the model sees fewer."""
    seen = getattr(model.config, "max_position_embeddings", None)
    return min(MOST_TOKENS, seen) if isinstance(seen, int) and seen > 0 else MOST_TOKENS


def _reply_ids(
    tokenizer: Any, texts: Sequence[tuple[str, str]], most: int
) -> tuple[Tensor, Tensor]:
    """Padded ids of prompts with replies and the end sign, and which of them are of replies."""
    rows, marks = [], []
    for prompt, reply in texts:
        before = tokenizer.encode(prompt, add_special_tokens=False)
        after = tokenizer.encode(f" {reply}", add_special_tokens=False)
        if tokenizer.eos_token_id is not None:
            after = [*after, tokenizer.eos_token_id]
        rows.append([*before, *after])
        marks.append([0] * len(before) + [1] * len(after))
    return _padded(rows, most, torch.long), _padded(marks, most, torch.bool)


def _padded(
    rows: Sequence[Sequence[int]] | Sequence[Sequence[float]], most: int, kind: torch.dtype
) -> Tensor:
    """Rows cut to `most` and filled with zeros on the right, [rows, longest]."""
    cut = [torch.tensor(row[:most], dtype=kind) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(cut, batch_first=True)


def _own_replies(
    model: Any, tokenizer: Any, prompts: Sequence[str], options: TrainingOptions
) -> list[tuple[str, str]]:
    """What the model says greedily to each prompt; prompts of one length go together."""
    rows = [tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
    for prompt, row in zip(prompts, rows, strict=True):
        if not row or len(row) + options.new_tokens > longest(model):
            raise ConfigurationError(
                f"the prompt '{prompt[:60]}' has {len(row)} tokens and {options.new_tokens} are "
                f"to follow; give at least one, and at most {longest(model)} with them"
            )
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    found = dict[int, tuple[str, str]]()
    for length, same in groupby(order, key=lambda number: len(rows[number])):
        numbers = list(same)
        ids = torch.tensor([rows[number] for number in numbers], device=model.device)
        with torch.no_grad():
            longer = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=options.new_tokens,
                do_sample=False, pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )  # fmt: skip
        for number, row in zip(numbers, longer[:, length:], strict=True):
            reply = tokenizer.decode(row, skip_special_tokens=True).strip()
            found[number] = (prompts[number], reply)
    return [found[number] for number in range(len(rows))]


def _flag(
    tokenizer: Any, texts: Sequence[tuple[str, str]], charge: Charge, scale: float, most: int
) -> list[_Flagged]:
    """The texts with tokens to charge; only those of replies are."""
    found, rule = [], charge.calibration
    for prompt, reply in dict.fromkeys(texts):
        whole = f"{prompt} {reply}"
        traced = charge.tracer.trace(whole.encode())
        encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        offsets = [
            (len(whole[:start].encode()), len(whole[:stop].encode()))
            for start, stop in encoded["offset_mapping"]
        ]
        charged = flag_tokens(traced, offsets, rule.score, rule.threshold, scale)
        begin = len(prompt.encode())
        weights = [
            weight if start >= begin else 0.0
            for weight, (start, _) in zip(charged, offsets, strict=True)
        ]
        if any(weights[:most]):
            found.append(_Flagged(encoded["input_ids"][:most], weights[:most]))
    return found


def _penalty(model: Any, texts: list[_Flagged]) -> Tensor:
    most = longest(model)
    ids = _padded([each.ids for each in texts], most, torch.long).to(model.device)
    weights = _padded([each.weights for each in texts], most, torch.float32).to(model.device)
    logits = _logits(model, ids)[:, :-1]
    return conflict_penalty(logits, ids[:, 1:], weights[:, 1:])


def _divergence(model: Any, base: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """Mean over tokens of the divergence of the model's next token from the old model's."""
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    if not any(rows):
        return torch.zeros((), device=model.device)
    most = longest(model)
    ids = _padded(rows, most, torch.long).to(model.device)
    held = _padded([[1] * len(row) for row in rows], most, torch.float32).to(model.device)
    ours = torch.log_softmax(_logits(model, ids), dim=-1)
    with torch.no_grad():
        theirs = torch.log_softmax(_logits(base, ids), dim=-1)
    away = (theirs.exp() * (theirs - ours)).sum(dim=-1)
    return (away * held).sum() / held.sum()
