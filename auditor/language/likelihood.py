"""How likely a model finds the tokens of a text: teacher forcing in windows.

A text longer than a window is read in windows that overlap: each moves on by the stride and
scores only what the one before did not, so every token but those of the first window has at
least `window - stride` tokens before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.language.network import Network

# Logits of a batch, the largest thing in memory: tokens x vocabulary x 4 bytes.
LOGIT_BYTES: Final = 512 * 2**20

Float64 = NDArray[np.float64]


class Window(NamedTuple):
    """Tokens `start` to `end` of a text; those from `scored` on are scored in it."""

    text: int
    start: int
    scored: int
    end: int


def plan_windows(lengths: Sequence[int], window: int, stride: int) -> Iterator[Window]:
    """Windows over texts of these many tokens; each token but a text's first is scored once."""
    for text, length in enumerate(lengths):
        scored = 1
        while scored < length:
            end = min(length, window if scored == 1 else scored + stride)
            yield Window(text, max(0, end - window), scored, end)
            scored = end


def score_tokens(
    network: Network,
    texts: Sequence[Sequence[int]],
    *,
    window: int,
    stride: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Float64]:
    """Nats of every token given those before it, [tokens] for each text; the first is NaN.

    Args:
        network: What computes the logits.
        texts: Token ids of each text.
        window: Tokens the model sees at once, at least 2.
        stride: By how many tokens windows move on, 1 <= stride < window.
        batch_size: Windows at once, fewer where their logits would take over `LOGIT_BYTES`.
        progress: Called with windows done and in all.
    """
    result = [np.full(len(text), np.nan) for text in texts]
    windows = sorted(
        plan_windows([len(text) for text in texts], window, stride),
        key=lambda part: part.end - part.start,
    )
    done = 0
    while done < len(windows):
        batch = _next_batch(windows[done:], batch_size, network.vocabulary)
        for part, scores in zip(batch, _score(network, texts, batch), strict=True):
            result[part.text][part.scored : part.end] = scores
        done += len(batch)
        if progress is not None:
            progress(done, len(windows))
    return result


def _next_batch(windows: Sequence[Window], batch_size: int, vocabulary: int) -> Sequence[Window]:
    """As many of the next windows as the bytes of their logits allow, at least one."""
    count = 1
    for count in range(1, min(batch_size, len(windows)) + 1):
        longest = windows[count - 1].end - windows[count - 1].start
        if count * longest * vocabulary * 4 > LOGIT_BYTES:
            return windows[: max(1, count - 1)]
    return windows[:count]


def _score(
    network: Network, texts: Sequence[Sequence[int]], batch: Sequence[Window]
) -> Iterator[Float64]:
    """Nats of the scored tokens of each window; padding stands on the right, unseen."""
    longest = max(part.end - part.start for part in batch)
    ids = torch.zeros((len(batch), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, part in enumerate(batch):
        length = part.end - part.start
        ids[row, :length] = torch.tensor(texts[part.text][part.start : part.end])
        mask[row, :length] = 1
    ids, mask = ids.to(network.device), mask.to(network.device)
    with torch.inference_mode():
        logits = network.read(ids, mask)
        for row, part in enumerate(batch):
            first, last = part.scored - part.start, part.end - part.start
            yield (
                torch.nn.functional.cross_entropy(
                    logits[row, first - 1 : last - 1].float(),
                    ids[row, first:last],
                    reduction="none",
                )
                .cpu()
                .double()
                .numpy()
            )
