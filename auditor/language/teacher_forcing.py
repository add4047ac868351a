"""What a model expects at every token of a continuation that is known: one pass, no generation.

Greedy decoding gives the continuation exactly if each of its tokens is the likeliest one after
those before it. One pass over prefix and continuation tells that for all tokens at once, as long
as no two tokens are closer than the rounding of another batch shape (`margin` says how close they
are) and the continuation holds no end of text, where generation would stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.errors import UnsupportedModel
from auditor.language.likelihood import LOGIT_BYTES
from auditor.language.network import Network


@dataclass(frozen=True, eq=False)
class ContinuationReading:
    """A continuation as the model reads it, token by token.

    Attributes:
        likeliest: The likeliest token after the true tokens before it, int64 [tokens].
        hits: Where it is the true one, bool [tokens].
        nats: Negative log-probability of the true token, float64 [tokens].
        margins: Logit of the true token less the largest of all others, float64 [tokens]; above
            0 exactly where it is the likeliest without a tie.
    """

    likeliest: NDArray[np.int64]
    hits: NDArray[np.bool_]
    nats: NDArray[np.float64]
    margins: NDArray[np.float64]

    @property
    def exact(self) -> bool:
        """Whether greedy decoding gives the whole continuation."""
        return bool(self.hits.all())

    @property
    def agreed(self) -> int:
        """Tokens until greedy decoding gives another one; all of them if it never does."""
        return len(self.hits) if self.exact else int(np.argmin(self.hits))

    @property
    def margin(self) -> float:
        """How far the decision about `exact` is from a tie, in logits.

        Of an exact continuation the least margin of its tokens, otherwise that of the first token
        that differs.
        """
        return abs(float(self.margins.min() if self.exact else self.margins[self.agreed]))

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the chance that sampling at temperature 1 gives all of it."""
        return -float(self.nats.sum())


def read_continuations(
    network: Network,
    prefixes: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[ContinuationReading]:
    """How the model reads each continuation behind its prefix, in order.

    Args:
        network: What computes the logits.
        prefixes: Token ids, none empty.
        continuations: Token ids that follow each, none empty.
        batch_size: Texts at once, fewer where their logits would take over `LOGIT_BYTES`.
        progress: Called with texts done and in all.

    Raises:
        UnsupportedModel: A logit is not finite.
    """
    lengths = [len(a) + len(b) for a, b in zip(prefixes, continuations, strict=True)]
    order = sorted(range(len(lengths)), key=lambda at: lengths[at])
    found: dict[int, ContinuationReading] = {}
    while len(found) < len(order):
        left = order[len(found) : len(found) + batch_size]
        batch = left[: _fitting([lengths[at] for at in left], network.vocabulary)]
        texts = [[*prefixes[at], *continuations[at]] for at in batch]
        known = [len(continuations[at]) for at in batch]
        found.update(zip(batch, _read(network, texts, known), strict=True))
        if progress is not None:
            progress(len(found), len(order))
    return [found[at] for at in range(len(order))]


def _fitting(lengths: Sequence[int], vocabulary: int) -> int:
    """How many of some texts, shortest first, fit the memory for logits; at least one."""
    fit = [(at + 1) * length * vocabulary * 4 <= LOGIT_BYTES for at, length in enumerate(lengths)]
    return max(1, sum(fit))


def _read(
    network: Network, texts: Sequence[Sequence[int]], known: Sequence[int]
) -> list[ContinuationReading]:
    """Readings of the last tokens of each text; padding stands on the right, unseen."""
    longest = max(map(len, texts))
    ids = torch.zeros((len(texts), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    ids, mask = ids.to(network.device), mask.to(network.device)
    with torch.inference_mode():
        logits = network.read(ids, mask)
        return [
            _reading(
                logits[row, len(text) - count - 1 : len(text) - 1].float(),
                ids[row, len(text) - count : len(text)],
            )
            for row, (text, count) in enumerate(zip(texts, known, strict=True))
        ]


def _reading(logits: torch.Tensor, true: torch.Tensor) -> ContinuationReading:
    """Of logits [tokens, vocabulary] and the tokens that are there, [tokens]."""
    best, places = logits.topk(2)
    # Some models rule tokens out with minus infinity; that is no fault.
    if not bool(best[:, 0].isfinite().all()):
        raise UnsupportedModel("its logits are not finite", way_out="look at the weights")
    own = logits.gather(1, true[:, None])[:, 0]
    others = torch.where(places[:, 0] == true, best[:, 1], best[:, 0])
    likeliest = logits.argmax(1)
    return ContinuationReading(
        likeliest=likeliest.cpu().numpy(),
        hits=(likeliest == true).cpu().numpy(),
        nats=(logits.logsumexp(1) - own).cpu().double().numpy(),
        margins=(own - others).cpu().double().numpy(),
    )
