"""Whether a graph gives the logits that the model gave in torch, with and without a cache.

What torch says is computed first, by the model as it is opened; then the graph is asked in
several ways that must come to the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from auditor.language.causal_lm import CausalLM
from auditor.language.network import position_ids
from auditor.language.onnx_network import OnnxNetwork
from auditor.language.opening import quiet_transformers

TOLERANCE: Final = 1e-4
"""Largest difference of a logit, as a share of torch's largest logit where that is above 1.

float32 rounds in proportion: on SmolLM2-135M (logits up to 33) torch itself is 2.0e-4 away from
its float64 self, the graph 2.5e-4, and both from each other up to 4.4e-4, a share of 1.3e-5.
"""
TRACED_ROWS: Final = 3


@dataclass(frozen=True)
class Difference:
    """What one comparison found.

    Attributes:
        name: How the graph was asked.
        rows: Prompts at once.
        tokens: Tokens of each.
        largest: Largest absolute difference of a logit over all tokens that are no padding.
        scale: Largest absolute logit of torch over the same tokens, at least 1.
    """

    name: str
    rows: int
    tokens: int
    largest: float
    scale: float

    @property
    def share(self) -> float:
        """The largest difference as a share of the scale; NaN where one is."""
        return self.largest / self.scale

    def __str__(self) -> str:
        size = f"{self.largest:.2g} ({self.share:.1g} of the largest logit)"
        return f"{size} for {self.name}, {self.rows} x {self.tokens} tokens"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Tokens, and what torch makes of them.

    Attributes:
        name: How the graph is asked.
        ids: int64 [rows, tokens].
        mask: 0 for padding, on the left.
        wanted: Logits by torch, [rows, tokens, vocabulary].
        parts: How many tokens go in at a time; those before are in the cache.
    """

    name: str
    ids: Tensor
    mask: Tensor
    wanted: Tensor
    parts: tuple[int, ...]


def plan_comparisons(model: CausalLM) -> list[Comparison]:
    """Random tokens of several shapes, padded on the left, with what torch says.

    The first is the shape the graph is traced with; where layers see a window of tokens only,
    the last goes beyond it.
    """
    most = model.max_tokens
    past, new = traced_shape(most)
    plan: list[tuple[str, int, tuple[int, ...]]] = [
        ("the traced shape", TRACED_ROWS, (past, new)),
        ("another shape, no cache", 4, (min(12, most),)),
        ("the cache, token by token", 2, (2, *[1] * (min(9, most) - 2))),
        ("one token", 1, (1,)),
    ]
    window = _window(model.model.config)
    if window and window < most:
        plan.append(("the end of the window", 1, (window, *[1] * min(3, most - window))))
    source = np.random.default_rng(0)
    return [_asked(model, source, *each) for each in plan]


def traced_shape(max_tokens: int) -> tuple[int, int]:
    """Tokens in the cache and new tokens with which a graph is traced; never 0 or 1 of them."""
    return min(5, max_tokens - 2), 2


def compare(network: OnnxNetwork, asked: Comparison) -> Difference:
    """The largest difference of the graph's logits to torch's; NaN if one of them is."""
    found, cache, seen = [], None, 0
    with torch.inference_mode():
        for part in asked.parts:
            end = seen + part
            logits, cache = network.advance(asked.ids[:, :end], asked.mask[:, :end], cache, seen)
            found.append(logits)
            seen = end
        kept = asked.mask.bool()
        apart = (torch.cat(found, 1) - asked.wanted)[kept].abs().max().item()
        scale = max(1.0, asked.wanted[kept].abs().max().item())
    rows, tokens = asked.ids.shape
    return Difference(asked.name, rows, tokens, apart, scale)


def _asked(
    model: CausalLM, source: np.random.Generator, name: str, rows: int, parts: tuple[int, ...]
) -> Comparison:
    network, tokens = model.network, sum(parts)
    ids = torch.from_numpy(source.integers(network.vocabulary, size=(rows, tokens)))
    mask = torch.ones_like(ids)
    if rows > 2:
        mask[0, :2] = 0
    optional: dict[str, Any] = {"position_ids": position_ids(mask)}
    with torch.inference_mode(), quiet_transformers():
        wanted = model.model(
            input_ids=ids, attention_mask=mask, use_cache=False,
            **{key: value for key, value in optional.items() if key in network.takes},
        ).logits  # fmt: skip
    return Comparison(name, ids, mask, wanted, parts)


def _window(config: Any) -> int:
    """How many tokens layers with a window see; 0 where none has one."""
    text = config.get_text_config(decoder=True)
    sizes = (getattr(text, "sliding_window", None), getattr(text, "attention_chunk_size", None))
    return max((int(size) for size in sizes if size), default=0)
