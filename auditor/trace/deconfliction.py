"""Contrastive Belief Deconfliction: direct preference optimisation with a penalty on matches.

Published (TraceAlign, 2508.02063): `L = L_DPO + lambda * sum max(0, BCI(s) - tau)` over matched
spans. The BCI of a decoded span does not depend on the weights, so that term has no gradient; it
is kept as `cbd_published` to show it. Ours charges the probability of the tokens inside conflicting
spans of rejected and sampled texts: `-ln(1 - p)`, which falls silent where p is small already
(unlikelihood training, 1908.04319) and so spares fluency.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.trace.shield import suspicion
from auditor.trace.traced_text import TracedText


def dpo_loss(
    chosen: Tensor, rejected: Tensor, base_chosen: Tensor, base_rejected: Tensor, beta: float
) -> Tensor:
    """Direct preference optimisation (2305.18290, eq. 7), mean over pairs.

    Args:
        chosen: Log-probabilities of the wanted replies under the model, [pairs].
        rejected: Of the unwanted ones.
        base_chosen: Of the wanted ones under the model that training began with.
        base_rejected: Of the unwanted ones under it.
        beta: How strongly the model is held to that one.
    """
    margin = (chosen - base_chosen) - (rejected - base_rejected)
    return -torch.nn.functional.logsigmoid(beta * margin).mean()


def conflict_penalty(logits: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
    """`sum w_t * -ln(1 - p(t | before))` of each text, mean over texts.

    Args:
        logits: For each place, of the token there, [texts, tokens, vocabulary].
        tokens: [texts, tokens].
        weights: Not below 0, [texts, tokens]; nothing flows back through them.
    """
    # By the other tokens' probabilities: 1 - p is 0 in float32 where a text is known by heart,
    # and a clamp there would leave those tokens without a gradient.
    logs = torch.log_softmax(logits, dim=-1)
    others = logs.scatter(-1, tokens[..., None], float("-inf"))
    return -(weights.detach() * torch.logsumexp(others, dim=-1)).sum(dim=-1).mean()


def cbd_published(surprisals: Tensor, threshold: float) -> Tensor:
    """`mean max(0, BCI(s) - tau)` over spans: a constant to the weights, without a gradient."""
    if not surprisals.numel():
        return torch.zeros(())
    return torch.clamp(surprisals.detach() - threshold, min=0).mean()


def flag_tokens(
    traced: TracedText,
    offsets: Sequence[tuple[int, int]],
    score: str,
    threshold: float,
    scale: float,
) -> list[float]:
    """How much each token is charged for the spans of its text above a threshold, [tokens].

    It is `omega(s) / tokens of s` inside a flagged span s, and 0 elsewhere.

    Args:
        traced: The text.
        offsets: First byte and one behind the last of each token.
        score: Whose suspicion counts.
        threshold: Above which.
        scale: Excess at which a span counts fully: `omega = clip(excess / scale, 0, 1)`.

    Raises:
        ConfigurationError: The scale is not above 0.
    """
    if not scale > 0:
        raise ConfigurationError(f"a scale of {scale:g}; give a number above 0")
    weights = [0.0] * len(offsets)
    for span in traced.evidence:
        omega = min(1.0, max(0.0, (suspicion(span, score) - threshold) / scale))
        inside = [
            number for number, (start, stop) in enumerate(offsets)
            if start < span.stop and stop > span.start and stop > start
        ]  # fmt: skip
        for number in inside:
            weights[number] += omega / len(inside)
    return weights
