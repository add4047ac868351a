"""Routing maps whose truth is known: noise that pairs share, and experts that read the answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from auditor.experts.routing_maps import Expert, RoutingMaps, TokenSet

LAYERS = (1, 3, 4)
EXPERTS = 16


def noise_maps(
    pairs: int,
    seed: int,
    *,
    planted: Mapping[Expert, float] | None = None,
    topics: int = 1,
    layers: tuple[int, ...] = LAYERS,
) -> tuple[RoutingMaps, list[tuple[int, int]], list[str]]:
    """Maps of pairs: topics, lengths and mixtures are shared within a pair.

    Args:
        pairs: How many; the refused prompt comes first in each.
        seed: Of the noise.
        planted: By how much the share of tokens of an expert is larger on refused prompts.
        topics: How many; topics prefer different experts.
        layers: Numbers of the decoder layers.

    Returns:
        The maps, the pairs, and the topic of each pair.
    """
    source = np.random.default_rng(seed)
    tastes = source.dirichlet(np.ones(EXPERTS), size=(topics, len(layers)))
    counts = np.zeros((2 * pairs, len(layers), EXPERTS), dtype=np.float32)
    tokens = np.repeat(source.integers(20, 60, size=pairs), 2)
    for prompt in range(2 * pairs):
        for row, taste in enumerate(tastes[prompt // 2 % topics]):
            counts[prompt, row] = source.multinomial(2 * tokens[prompt], taste)
    for expert, more in (planted or {}).items():
        row = layers.index(expert.layer)
        counts[::2, row, expert.expert] += np.floor(more * tokens[::2]).astype(np.float32)
    mass = counts * np.float32(0.5)
    maps = RoutingMaps(layers, TokenSet.PROMPT, counts, mass, tokens.astype(np.int64))
    each = [(2 * number, 2 * number + 1) for number in range(pairs)]
    return maps, each, [f"topic {number % topics}" for number in range(pairs)]
