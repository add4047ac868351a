"""How far a changed model's next tokens are from its base's: Kullback and Leibler's divergence.

KL(base || changed) in nats, at the first token of an answer and over the first tokens of the base's
own answers, teacher-forced. A small divergence at the first token can stand beside changed
behaviour, so both are said. The changed model is the base inside a context, so one copy is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.errors import UnsupportedModel
from auditor.language.generation import plan_batches
from auditor.language.network import Network

Float64 = NDArray[np.float64]
ANSWER_TOKENS: Final = 32
_ROUNDING: Final = -1e-6


class Answered(NamedTuple):
    """Token ids of a prompt, and of the base's answer to it."""

    prompt: Sequence[int]
    answer: Sequence[int]


@dataclass(frozen=True, eq=False)
class Distances:
    """Nats for each prompt.

    Attributes:
        first: At the first token of the answer, [prompts].
        answer: Mean over the first tokens of the base's answer, [prompts].
    """

    first: Float64
    answer: Float64


def measure_distances(
    network: Network,
    answered: Sequence[Answered],
    changed: Callable[[], AbstractContextManager[object]],
    *,
    tokens: int = ANSWER_TOKENS,
    batch_size: int = 8,
) -> Distances:
    """Divergences of a changed model from its base.

    Args:
        network: What computes the logits, `CausalLM.network`.
        answered: What is compared; the first token counts even where the answer is empty.
        changed: A context in which the model is changed.
        tokens: Of an answer at most.
        batch_size: Prompts at once.

    Raises:
        UnsupportedModel: A divergence is not finite, or below 0 by more than rounding.
    """
    texts = [[*each.prompt, *each.answer[: tokens - 1]] for each in answered]
    first, mean = np.empty(len(answered)), np.empty(len(answered))
    for batch in plan_batches(texts, batch_size, network.keeps_state):
        rows = [texts[at] for at in batch]
        base = _log_probabilities(network, rows)
        with changed():
            other = _log_probabilities(network, rows)
        for row, at in enumerate(batch):
            span = slice(len(answered[at].prompt) - 1, len(texts[at]))
            nats = _divergence(base[row, span], other[row, span])
            first[at], mean[at] = float(nats[0]), float(nats.mean())
    return Distances(first, mean)


def _log_probabilities(network: Network, rows: Sequence[Sequence[int]]) -> Tensor:
    """float32 [rows, tokens, vocabulary]; padding stands on the right, unseen."""
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(rows):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    with torch.inference_mode():
        logits = network.read(ids.to(network.device), mask.to(network.device))
        return torch.log_softmax(logits.float(), -1)


def _divergence(base: Tensor, other: Tensor) -> Float64:
    """KL of each row, [rows]; what is impossible under both counts nothing."""
    both = torch.isneginf(base) & torch.isneginf(other)
    terms = torch.where(both, 0, base.exp() * (base - other))
    nats = torch.where(base.exp() == 0, 0, terms).double().sum(-1).cpu().numpy()
    if not np.isfinite(nats).all() or (nats < _ROUNDING * max(1, base.shape[-1] / 1000)).any():
        raise UnsupportedModel(
            f"a divergence of {nats.min():g} to {nats.max():g} nats", place="next-token logits",
            way_out="look for logits that are not finite",
        )  # fmt: skip
    return np.asarray(np.maximum(nats, 0.0), dtype=np.float64)
