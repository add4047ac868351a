"""Continuing prompts token by token, in batches that leave no trace in the completions.

Prompts of a batch are padded on the left, with attention mask and positions that skip the
padding, and share one key-value cache. Drawing a token takes one uniform number from a
generator that belongs to the prompt, so neither the batch nor global random state matters.
Sampling settings in a folder's generation_config.json are not applied; its ends of text are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.errors import UnsupportedModel
from auditor.language.network import Network

if TYPE_CHECKING:
    from transformers import LogitsProcessor

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt.

    Attributes:
        text: Without special tokens, and without the stop string that ended it.
        token_ids: Every token that was generated, without the end of text; for one that a
            stop string ended they include the string.
        ended: Whether it ended by itself (end of text or stop string), not at the limit.
    """

    text: str
    token_ids: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class Settings:
    """How to continue a prompt.

    Attributes:
        max_new_tokens: At most so many tokens.
        seed: Of sampling; with the same prompt and seed the same completion.
        temperature: 0 takes the most likely token, otherwise logits are divided by it.
        processors: Applied in order to the logits, as transformers does.
        stop: Strings that end a completion where they occur.
        ends: Ids of tokens that end a completion.
        pad: Id that fills the rows of a batch.
    """

    max_new_tokens: int
    seed: int
    temperature: float
    processors: tuple[LogitsProcessor, ...]
    stop: tuple[str, ...]
    ends: frozenset[int]
    pad: int


@dataclass
class _Row:
    """One prompt being continued."""

    generator: np.random.Generator
    written: list[int] = field(default_factory=list)
    text: str | None = None
    ended: bool = False


def generate_batch(
    network: Network,
    prompts: Sequence[Sequence[int]],
    settings: Settings,
    decode: Callable[..., str],
) -> list[Completion]:
    """The completions of token ids, one for each prompt, in order.

    Args:
        network: What computes the logits.
        prompts: Token ids, none empty; padded on the left where lengths differ, which must
            not be if the network keeps a state.
        settings: How.
        decode: Token ids to text without special tokens.

    Raises:
        UnsupportedModel: The model keeps no key-value cache, its logits are not finite, or
            the processors forbid every token.
    """
    rows = [_Row(_generator(settings.seed, prompt)) for prompt in prompts]
    ids, mask = _pad_left(prompts, settings.pad, network.device)
    with torch.inference_mode():
        logits, cache = network.step(ids, mask, None)
        for number in range(1, settings.max_new_tokens + 1):
            scores = logits.float()
            for processor in settings.processors:
                scores = processor(ids, scores)
            _require_choice(scores, rows)
            chosen = _choose(scores, rows, settings.temperature)
            _note(rows, chosen, settings, decode)
            if number == settings.max_new_tokens or all(row.ended for row in rows):
                break
            added = torch.tensor(chosen, device=ids.device)[:, None]
            ids, mask = torch.cat([ids, added], 1), torch.cat([mask, torch.ones_like(added)], 1)
            logits, cache = network.step(ids, mask, cache)
    return [
        Completion(
            decode(row.written) if row.text is None else row.text, tuple(row.written), row.ended
        )
        for row in rows
    ]


def next_token_logits(network: Network, prompts: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Logits of the token after each prompt, float32 [prompts, vocabulary], in one batch.

    Args:
        network: What computes the logits.
        prompts: Token ids as for `generate_batch`.
        pad: Id that fills the rows of the batch.

    Raises:
        UnsupportedModel: The model keeps no key-value cache.
    """
    with torch.inference_mode():
        logits, _ = network.step(*_pad_left(prompts, pad, network.device), None)
        return logits.float()


def plan_batches(
    prompts: Sequence[Sequence[int]], batch_size: int, same_length: bool
) -> Iterator[list[int]]:
    """Positions of prompts that run together, shortest first; with equal lengths if asked."""
    batch: list[int] = []
    for position in sorted(range(len(prompts)), key=lambda position: len(prompts[position])):
        unequal = bool(batch) and len(prompts[batch[0]]) != len(prompts[position])
        if len(batch) == batch_size or (same_length and unequal):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def _generator(seed: int, prompt: Sequence[int]) -> np.random.Generator:
    """One for each prompt and seed, whatever runs beside it."""
    key = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return np.random.default_rng(int.from_bytes(key))


def _pad_left(
    prompts: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    longest = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _require_choice(scores: Tensor, rows: Sequence[_Row]) -> None:
    best = scores.max(-1).values.isfinite().tolist()
    if not all(row.ended or finite for row, finite in zip(rows, best, strict=True)):
        raise UnsupportedModel(
            "no token can follow: logits are not finite, or the processors forbid every token",
            way_out="look at the weights and at what the processors leave",
        )


def _choose(scores: Tensor, rows: Sequence[_Row], temperature: float) -> list[int]:
    """The most likely token of each row, or one drawn by inverting its distribution."""
    if temperature == 0:
        return [int(token) for token in scores.argmax(-1)]
    probabilities = torch.softmax(scores.double() / temperature, -1).cpu().numpy()
    return [_draw(row.generator, of) for row, of in zip(rows, probabilities, strict=True)]


def _draw(generator: np.random.Generator, probabilities: NDArray[np.float64]) -> int:
    reached = probabilities.cumsum()
    # Below the last sum, which rounding leaves beside 1: no token of probability 0 is drawn.
    point = min(generator.random() * reached[-1], np.nextafter(reached[-1], 0.0))
    return int(np.searchsorted(reached, point, side="right"))


def _note(
    rows: Sequence[_Row], chosen: Sequence[int], settings: Settings, decode: Callable[..., str]
) -> None:
    """Write the chosen tokens into the rows that are not at their end."""
    for row, token in zip(rows, chosen, strict=True):
        if row.ended:
            continue
        if token in settings.ends:
            row.ended = True
            continue
        row.written.append(token)
        if settings.stop:
            text = decode(row.written)
            found = [at for at in map(text.find, settings.stop) if at >= 0]
            if found:
                row.text, row.ended = text[: min(found)], True
